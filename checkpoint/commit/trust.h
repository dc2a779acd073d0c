// What a resume says of the checkpoint that it came from. Pure.
//
//   unknown --kProved--> good          a good one stays good: what fails after it has failed for another reason
//   unknown --kFailed x 2, kDiverged--> suspect
//   a person's word (kGood, kSuspect, kUnknown) replaces everything
#pragma once

#include <optional>
#include <string>

#include "checkpoint/commit/types.h"

namespace belay::checkpoint::commit {

// Never renumber: on the wire.
enum class Judgement : std::uint8_t {
  kFailed = 1,    // a run that resumed from it failed before it had made enough steps
  kDiverged = 2,  // a run that resumed from it got a loss that is no number, where the one that saved it had one
  kProved = 3,    // a run that resumed from it made enough steps
  kGood = 4,      // a person says so
  kSuspect = 5,
  kUnknown = 6,  // a person says: forget it
};
constexpr bool OfARun(Judgement judgement) { return judgement <= Judgement::kProved; }

// What is to be believed from now on; no value if that changes nothing. `by`: the run that says so, whose first word
// counts; `reason`: for people.
std::optional<Trust> Judge(const Trust& before, Judgement judgement, base::Generation by, const std::string& reason);

}  // namespace belay::checkpoint::commit
