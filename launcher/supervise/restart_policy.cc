#include "launcher/supervise/restart_policy.h"

#include "runtime/base/exit_status.h"
#include "runtime/base/str.h"

namespace belay::launcher {

using base::Str;

RestartDecision DecideRestart(const FailureFacts& facts) {
  if (facts.stop_requested) return {false, "not restarted: the run was asked to stop"};
  if (facts.never_started) return {false, "not restarted: the program could not be started"};
  if (facts.status == static_cast<int>(base::ExitStatus::kSoftware)) {
    return {false, "not restarted: the program misuses belay"};
  }
  if (!facts.by_signal && facts.steps_done == 0 && !facts.attached) {
    return {false,
            "not restarted: it ended by itself, and belay cannot see the steps of a program that does not use its API"};
  }
  // Memory that another process still held a moment ago may be there the next time.
  const bool out_of_memory = facts.status == static_cast<int>(base::ExitStatus::kOsError);
  if (!facts.by_signal && facts.steps_done == 0 && !facts.resumed && !out_of_memory) {
    return {false, "not restarted: it failed before its first finished step, so it would fail again"};
  }
  if (facts.restarts_max == 0) return {false, "not restarted: --max-restarts is 0"};
  if (facts.restarts_used >= facts.restarts_max) {
    return {false, Str("not restarted: all ", facts.restarts_max, " restarts are used (--max-restarts)")};
  }
  return {true, Str("restart ", facts.restarts_used + 1, " of ", facts.restarts_max)};
}

}  // namespace belay::launcher
