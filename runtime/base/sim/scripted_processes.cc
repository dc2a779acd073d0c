#include "runtime/base/sim/scripted_processes.h"

#include <signal.h>

#include <algorithm>

#include "runtime/base/check.h"

namespace belay::base {

void ScriptedProcesses::Script(ProcessScript script) {
  const std::scoped_lock lock(mutex_);
  scripts_.push_back(std::move(script));
}

Result<pid_t> ScriptedProcesses::Spawn(SpawnRequest request) {
  if (request.argv.empty()) return Fail(Code::kInvalidArgument, "no program to start");
  const std::scoped_lock lock(mutex_);
  BELAY_CHECK(!scripts_.empty(), "no script for ", request.argv[0]);
  Process process;
  process.script = std::move(scripts_.front());
  scripts_.pop_front();
  if (process.script.spawn_error) return Fail(*process.script.spawn_error, "cannot start ", request.argv[0]);
  const pid_t pid = next_pid_++;
  const ProcessScript& script = process.script;
  process.exit = {pid, script.signal != 0 ? 128 + script.signal : script.status, script.signal};
  if (script.exits_after) process.ends_at = clock_.Now() + *script.exits_after;
  running_.emplace(pid, std::move(process));
  spawned_.push_back({pid, std::move(request.argv), std::move(request.environment)});
  return pid;
}

Status ScriptedProcesses::SignalGroup(pid_t pid, int signal) {
  if (pid <= 1) return Fail(Code::kInvalidArgument, "no process group ", pid);
  const std::scoped_lock lock(mutex_);
  const SteadyTime now = clock_.Now();
  signalled_.push_back({pid, signal, now});
  const auto found = running_.find(pid);
  if (found == running_.end()) return {};
  Process& process = found->second;
  if (process.ends_at && *process.ends_at <= now) return {};  // too late
  const bool deadly = signal == SIGKILL || (signal != SIGCONT && signal != SIGSTOP && signal != 0 &&
                                            !process.script.ignored_signals.contains(signal));
  if (!deadly) return {};
  const SteadyTime end = signal == SIGKILL ? now : now + process.script.obeys_signal_after;
  if (process.ends_at && *process.ends_at <= end) return {};  // it would have ended before anyway
  process.ends_at = end;
  process.exit = {pid, 128 + signal, signal};
  return {};
}

Result<std::optional<ExitEvent>> ScriptedProcesses::Wait(pid_t pid, std::optional<Duration> deadline) {
  std::optional<SteadyTime> until;
  if (deadline) until = clock_.Now() + *deadline;
  while (true) {
    const SteadyTime now = clock_.Now();
    SteadyTime wake;
    {
      const std::scoped_lock lock(mutex_);
      const auto found = running_.find(pid);
      if (found == running_.end()) return Fail(Code::kNotFound, "process ", pid, " is no child, or was waited for");
      const std::optional<SteadyTime> ends_at = found->second.ends_at;
      if (ends_at && *ends_at <= now) {
        const ExitEvent event = found->second.exit;
        running_.erase(found);
        return std::optional(event);
      }
      if (until && *until <= now) return std::optional<ExitEvent>();
      BELAY_CHECK(ends_at || until, "waits for ever for scripted process ", pid);
      wake = ends_at && until ? std::min(*ends_at, *until) : ends_at ? *ends_at : *until;
    }
    clock_.SleepFor(wake - now);
  }
}

std::vector<ScriptedProcesses::Spawned> ScriptedProcesses::spawned() const {
  const std::scoped_lock lock(mutex_);
  return spawned_;
}

std::vector<ScriptedProcesses::Signalled> ScriptedProcesses::signalled() const {
  const std::scoped_lock lock(mutex_);
  return signalled_;
}

}  // namespace belay::base
