// Which committed checkpoints may go. Pure.
//
// Kept always: the newest, pinned ones, those somebody is restoring from. Kept by policy: the newest `keep_last`, the
// first at or after each multiple of `keep_every`, the best `keep_best` by a metric. The rest may go, and only ever
// after a newer one committed, because this is asked after a commit and the newest is never in the answer.
//
// A quarantined or suspect one fills nobody's place: neither of the newest, nor of a milestone, nor of the best. It
// goes itself once `keep_last` good ones are newer; until then somebody may want what is left of it.
//
// "At or after", because a save that finds belayd busy is put off by a step or more: asking for step 100 itself would
// lose the milestone. If a run went back and wrote a step again, the newer generation's counts; a milestone goes only
// when one nearer to its multiple has come.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "checkpoint/commit/types.h"

namespace belay::checkpoint::commit {

struct RetentionCandidate {
  CheckpointId id;
  bool pinned = false;
  bool in_use = false;       // a restore has it open
  bool quarantined = false;  // damaged, or suspect
  std::map<std::string, double> metrics;
};

// In ascending order. Metrics that are missing or not finite never count as best; ties go to the newer.
std::vector<CheckpointId> ChooseDeletions(const std::vector<RetentionCandidate>& candidates, const Retention& policy);

}  // namespace belay::checkpoint::commit
