#include "launcher/supervise/stop_verdict.h"

#include <algorithm>

#include "runtime/base/exit_status.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;

constexpr int kPreempted = static_cast<int>(base::kExitPreempted);
constexpr int kGraceExpired = static_cast<int>(base::ExitStatus::kGraceExpired);

// RankProgress::outcome of a Session that finish() has ended.
constexpr std::uint32_t kOutcomeFinished = 1, kOutcomeUnsaved = 3;

}  // namespace

// `outcome` counts where the program ignored finish()'s answer and exited 0, or did not get out in one piece.
bool LeftSaved(const RankRecord& rank) {
  return rank.Gone() && (rank.progress.SaidSaved() || (rank.exit && rank.exit->status == kPreempted));
}

bool LeftUnsaved(const RankRecord& rank) {
  return rank.exit && rank.progress.attached &&
         (rank.exit->status == kGraceExpired || (rank.exit->status == 0 && rank.progress.outcome == kOutcomeUnsaved));
}

std::optional<Verdict> VerdictOfGraceExpired(const SupervisorState& state) {
  bool saved = false;
  for (const RankRecord& rank : state.ranks) {
    const bool said = rank.progress.SaidSaved() || (rank.exit && rank.exit->status == kPreempted);
    const bool finished = rank.progress.attached && rank.progress.outcome == kOutcomeFinished;
    if (rank.progress.attached && !said && !finished) return std::nullopt;
    saved = saved || said;
  }
  if (!saved) return std::nullopt;
  return Verdict{Outcome::kPreempted, kPreempted,
                 Str("stopped by ", state.stop_source,
                     "; everything is saved (some ranks did not get out of their libraries and were killed): run it "
                     "again")};
}

Verdict VerdictOfStop(const SupervisorState& state) {
  if (std::ranges::any_of(state.ranks, LeftUnsaved)) {
    if (state.StepsDone() == 0) {
      return {Outcome::kPreempted, kPreempted,
              Str("stopped by ", state.stop_source, " before the first step was done: nothing is lost")};
    }
    return {Outcome::kStoppedUnsaved, kGraceExpired, "stopped, but the ranks could not save their last steps"};
  }
  // Any: of a program without belay rank 0 alone may save. With belay ranks that had finished lose nothing either.
  if (std::ranges::any_of(state.ranks, LeftSaved)) {
    return {Outcome::kPreempted, kPreempted,
            Str("stopped by ", state.stop_source, "; everything is saved: run it again")};
  }
  if (state.AnyAttached()) return {Outcome::kDone, 0, "every rank finished before the stop took effect"};
  if (state.resume_step) {
    return {Outcome::kPreempted, kPreempted,
            Str("stopped while it was starting: the checkpoint of step ", *state.resume_step, " stands")};
  }
  return {
      Outcome::kStoppedUnsaved, kGraceExpired,
      "stopped by SIGTERM; the program never attached to belay and did not exit 75, so belay knows of no checkpoint"};
}

Verdict VerdictBetweenAttempts(const SupervisorState& state) {
  const std::int64_t committed = std::max(state.CommittedStep(), state.resume_step.value_or(-1));
  if (!state.failure) {
    return {Outcome::kPreempted, kPreempted,
            Str("stopped by ", state.stop_source, " before any program was started: nothing is lost")};
  }
  if (committed < 0) {
    return {Outcome::kFailed, state.failure->status,
            "stopped while recovering from a failure, and nothing had been saved"};
  }
  return {Outcome::kPreempted, kPreempted,
          Str("stopped by ", state.stop_source, " while recovering: the checkpoint of step ", committed, " stands")};
}

}  // namespace belay::launcher
