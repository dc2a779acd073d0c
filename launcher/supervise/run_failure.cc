#include "launcher/supervise/run_failure.h"

#include <algorithm>
#include <csignal>

#include "runtime/base/exit_status.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;

constexpr int kUnavailable = static_cast<int>(base::ExitStatus::kUnavailable);

std::string HowItEnded(int signal, int status) {
  return signal != 0 ? Str("was killed by signal ", signal, " (", SignalName(signal), ")")
                     : Str("ended with status ", status);
}

}  // namespace

FailureReport SpawnFailure(const base::Error& error, const std::vector<RankRecord>& ranks) {
  return MakeRunFailure(FailureClass::kLaunch, error.Text(), "nothing was started",
                        static_cast<int>(base::Describe(error.code).exit_status), ranks);
}

FailureReport LaunchTimeout(base::Duration launch_timeout, const std::vector<RankRecord>& ranks) {
  const auto missing = std::ranges::count(ranks, RankState::kAbsent, &RankRecord::state);
  return MakeRunFailure(FailureClass::kLaunch,
                        Str(missing, " of ", ranks.size(), " ranks did not come up within ",
                            std::chrono::duration_cast<std::chrono::seconds>(launch_timeout).count(), " s"),
                        "mpirun's own words are below and in mpirun.log; --launch-timeout gives it longer",
                        kUnavailable, ranks);
}

FailureReport ShimLostAtStart(const std::vector<RankRecord>& ranks) {
  const auto lost = std::ranges::find(ranks, RankState::kLost, &RankRecord::state);
  return MakeRunFailure(
      FailureClass::kShimLost, Str("rank ", lost->rank, "'s belay-rank was killed while the run started"),
      "it came from outside belay: a person, the scheduler, or the kernel for memory", 128 + SIGKILL, ranks);
}

FailureReport MpirunEndedAtStart(int signal, int status, const std::vector<RankRecord>& ranks) {
  if (signal != 0) {
    return MakeRunFailure(FailureClass::kMpirunLost,
                          Str("mpirun ", HowItEnded(signal, status), " while the run started"),
                          "it came from outside belay: a person or the scheduler", 128 + signal, ranks);
  }
  return MakeRunFailure(FailureClass::kLaunch,
                        Str("mpirun ", HowItEnded(signal, status), " before every rank had registered"),
                        "its own words are below and in mpirun.log", kUnavailable, ranks);
}

FailureReport MpirunEndedUnderTheRun(int signal, int status, const std::vector<RankRecord>& ranks) {
  return MakeRunFailure(FailureClass::kMpirunLost, Str("mpirun ", HowItEnded(signal, status), " under the run"),
                        signal != 0 ? "it came from outside belay: a person, the scheduler, or the kernel for memory"
                                    : "by itself, or because somebody told it to; its own words are below and in "
                                      "mpirun.log",
                        signal != 0 ? 128 + signal : kUnavailable, ranks);
}

}  // namespace belay::launcher
