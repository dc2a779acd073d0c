// ProcessSpawner twin: processes that exist on paper and do what their script says, in the time of a Clock (a SimClock:
// Wait jumps to the exit). Thread-safe.
#pragma once

#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "runtime/base/clock.h"
#include "runtime/base/process_spawner.h"

namespace belay::base {

struct ProcessScript {
  std::optional<Code> spawn_error;      // exec fails so
  std::optional<Duration> exits_after;  // none: hangs until a signal ends it
  int status = 0;                       // of that exit
  int signal = 0;                       // or the signal that ends it then
  std::set<int> ignored_signals;        // SIGKILL cannot be ignored
  Duration obeys_signal_after{};        // time between a deadly signal and the end
};

class ScriptedProcesses final : public ProcessSpawner {
 public:
  explicit ScriptedProcesses(Clock& clock) : clock_(clock) {}

  // The script of the next process that is spawned and has none yet. A spawn without a script is a CHECK.
  void Script(ProcessScript script);

  Result<pid_t> Spawn(SpawnRequest request) override;
  Status SignalGroup(pid_t pid, int signal) override;
  // Without a deadline on a process that hangs: a CHECK, nobody else would end it.
  Result<std::optional<ExitEvent>> Wait(pid_t pid, std::optional<Duration> deadline) override;

  struct Spawned {
    pid_t pid;
    std::vector<std::string> argv;
    std::map<std::string, std::string> environment;
  };
  struct Signalled {
    pid_t pid;
    int signal;
    SteadyTime at;
  };
  std::vector<Spawned> spawned() const;
  std::vector<Signalled> signalled() const;

 private:
  struct Process {
    ProcessScript script;
    std::optional<SteadyTime> ends_at;
    ExitEvent exit;
  };

  Clock& clock_;
  mutable std::mutex mutex_;
  std::deque<ProcessScript> scripts_;
  std::map<pid_t, Process> running_;  // and exited, until waited for
  std::vector<Spawned> spawned_;
  std::vector<Signalled> signalled_;
  pid_t next_pid_ = 1000;
};

}  // namespace belay::base
