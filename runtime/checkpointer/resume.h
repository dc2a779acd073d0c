// Choosing the checkpoint to go on from, together: all ranks load the same one, or none does.
#pragma once

#include <optional>

#include "checkpoint/client/client.h"
#include "runtime/base/clock.h"
#include "runtime/session/session_state.h"
#include "runtime/state/state_set.h"

namespace belay::runtime {

// Newest step first; of one step memory before disk, since it is faster and just as checked.
void SortRestorePoints(std::vector<checkpoint::RestorePoint>& points);
std::string EncodeRestorePoints(const std::vector<checkpoint::RestorePoint>& points);
base::Result<std::vector<checkpoint::RestorePoint>> DecodeRestorePoints(const std::string& text);

// Collective. Rank 0 asks belayd; every rank loads; a damaged checkpoint is reported on stderr and the next one tried.
// No value: the job has none yet. kLayoutMismatch and kUnavailable end it at once, others when nothing is left to try;
// all ranks get the same error, that of the lowest rank that failed.
base::Result<std::optional<checkpoint::RestorePoint>> Resume(belay::detail::SessionState& run, StateSet& state,
                                                             base::Clock& clock);

}  // namespace belay::runtime
