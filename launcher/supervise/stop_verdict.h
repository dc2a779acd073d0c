// How a run that was asked to stop has ended. Pure.
#pragma once

#include <optional>

#include "launcher/supervise/rank_record.h"
#include "launcher/supervise/supervisor_state.h"

namespace belay::launcher {

// The rank left because it was asked to, with its last step committed; however it ended after that.
bool LeftSaved(const RankRecord& rank);
// The rank left because it was asked to, and could not save.
bool LeftUnsaved(const RankRecord& rank);

// Of a run whose ranks have all left after a stop.
Verdict VerdictOfStop(const SupervisorState& state);
// Of a run whose grace period is over though ranks are still there: kPreempted if every rank of belay's has said that
// all is saved, or had finished before; else none, and the grace was too short.
std::optional<Verdict> VerdictOfGraceExpired(const SupervisorState& state);
// Of a run that a stop ended before its programs ran, or between two attempts.
Verdict VerdictBetweenAttempts(const SupervisorState& state);

}  // namespace belay::launcher
