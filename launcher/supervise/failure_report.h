// Who failed first, why, who went down with it and what happens next: in words for people. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/supervise/rank_record.h"

namespace belay::launcher {

enum class FailureClass : std::uint8_t {
  kUsage,        // the program could not be started or refused its arguments
  kUserError,    // it ended with a status of its own
  kMisuse,       // it ended well but never said so to belay
  kCrash,        // a signal that bugs cause: SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL
  kOutOfMemory,  // the kernel's out-of-memory killer
  kKilled,       // a signal from outside: SIGKILL, SIGTERM and the like
  kShimLost,     // belay-rank was killed
  kMpirunLost,   // mpirun ended under the run
  kLaunch,       // the ranks never came up
};
std::string_view Name(FailureClass failure_class);

struct FailureReport {
  FailureClass failure_class = FailureClass::kUserError;
  RankRecord first;                // first.rank < 0: no rank, the whole run (mpirun, launch)
  std::string what;                // "was killed by signal 9 (SIGKILL) after step 12"
  std::string hint;                // why that happens and what to look at
  std::vector<RankRecord> others;  // in the order in which they ended
  int status = 1;                  // the run's exit status if it is not restarted
};

// `ranks`: all ranks after the settling moment; at least one of them failed. Not failed: a rank that left with
// status 75 or, having attached, with 72; one that exited 0, unless it attached and never said that it was done; one
// that had said that all is saved, however it then ended (a library that crashes while it is unloaded costs nothing).
bool Failed(const RankRecord& rank);
FailureReport MakeFailureReport(const std::vector<RankRecord>& ranks);
// For failures of the run as a whole.
FailureReport MakeRunFailure(FailureClass failure_class, std::string what, std::string hint, int status,
                             const std::vector<RankRecord>& ranks);

// "SIGKILL" for 9; "signal 61" for one without a name.
std::string SignalName(int signal);
// "exited with status 3", "was killed by signal 9 (SIGKILL)", "vanished: its belay-rank was killed".
std::string DescribeEnd(const RankRecord& rank);
// The whole report, several lines, each ending in a newline. `next` says what happens now.
std::string RenderFailureReport(const FailureReport& report, std::string_view next);

}  // namespace belay::launcher
