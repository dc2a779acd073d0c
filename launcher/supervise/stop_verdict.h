// How a run that was asked to stop has ended. Pure.
#pragma once

#include "launcher/supervise/rank_record.h"
#include "launcher/supervise/supervisor_state.h"

namespace belay::launcher {

// The rank left because it was asked to, with its last step committed.
bool LeftSaved(const RankRecord& rank);
// The rank left because it was asked to, and could not save.
bool LeftUnsaved(const RankRecord& rank);

// Of a run whose ranks have all left after a stop.
Verdict VerdictOfStop(const SupervisorState& state);
// Of a run that a stop ended before its programs ran, or between two attempts.
Verdict VerdictBetweenAttempts(const SupervisorState& state);

}  // namespace belay::launcher
