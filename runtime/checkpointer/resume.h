// Choosing the checkpoint to go on from, together: all ranks load the same one, or none does.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "checkpoint/client/client.h"
#include "runtime/base/clock.h"
#include "runtime/session/session_state.h"
#include "runtime/state/state_set.h"

namespace belay::runtime {

// One candidate a copy, in the order in which they are tried: as belayd lists them (newest generation first, then
// newest step), each point from memory, which is faster and just as checked, before the same from disk. Suspect ones
// are none.
std::vector<checkpoint::RestorePoint> RestoreCandidates(const std::vector<checkpoint::RestorePoint>& listed);
std::string EncodeRestorePoints(const std::vector<checkpoint::RestorePoint>& points);
base::Result<std::vector<checkpoint::RestorePoint>> DecodeRestorePoints(const std::string& text);

// Collective. The same answer on every rank: success, or the error of the lowest rank that may not go on to another
// checkpoint, else of the lowest that failed; its words name the rank.
base::Status AgreeOn(belay::detail::SessionState& run, const base::Status& own);

struct Resumed {
  checkpoint::RestorePoint point;
  std::map<std::string, double> metrics;  // what the run that saved it had said of that step
};
// Collective. Rank 0 asks belayd; every rank loads; a damaged checkpoint is reported on stderr and the next one tried.
// No value: the job has none yet. kCorrupt if all that are left are suspect. kLayoutMismatch, kFolderMissing and
// kUnavailable end it at once, others when nothing is left to try; all ranks get the same error, that of the lowest
// rank that failed.
base::Result<std::optional<Resumed>> Resume(belay::detail::SessionState& run, StateSet& state, base::Clock& clock);

}  // namespace belay::runtime
