// Failures of a run as a whole, where no rank is to blame: what is said of them. Pure.
#pragma once

#include <vector>

#include "launcher/supervise/failure_report.h"
#include "launcher/supervise/rank_record.h"
#include "runtime/base/clock.h"
#include "runtime/base/result.h"

namespace belay::launcher {

// mpirun, or something it needs, could not be had.
FailureReport SpawnFailure(const base::Error& error, const std::vector<RankRecord>& ranks);
// Some ranks never registered.
FailureReport LaunchTimeout(base::Duration launch_timeout, const std::vector<RankRecord>& ranks);
// A belay-rank went away before every rank had registered; one of `ranks` is lost.
FailureReport ShimLostAtStart(const std::vector<RankRecord>& ranks);
// mpirun ended before every rank had registered, or under the run. `signal`: what killed it, or 0; `status`: its own
// word otherwise, quoted and never used as the run's.
FailureReport MpirunEndedAtStart(int signal, int status, const std::vector<RankRecord>& ranks);
FailureReport MpirunEndedUnderTheRun(int signal, int status, const std::vector<RankRecord>& ranks);

}  // namespace belay::launcher
