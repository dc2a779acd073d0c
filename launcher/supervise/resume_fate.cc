#include "launcher/supervise/resume_fate.h"

#include <algorithm>

#include "runtime/base/exit_status.h"

namespace belay::launcher {
namespace {

bool Judged(const RankRecord& rank) { return rank.progress.Resumed() && rank.progress.trust_steps > 0; }

// Statuses from here on are belay's words for what is wrong around the program.
constexpr int kFirstOfBelay = static_cast<int>(base::ExitStatus::kUsage);

}  // namespace

std::optional<ResumedCheckpoint> ResumedFrom(const std::vector<RankRecord>& ranks) {
  const auto one = std::ranges::find_if(ranks, Judged);
  if (one == ranks.end()) return std::nullopt;
  return ResumedCheckpoint{one->progress.resumed_step, one->progress.resumed_generation};
}

bool ResumeProved(const std::vector<RankRecord>& ranks) {
  return !ranks.empty() && std::ranges::all_of(ranks, [](const RankRecord& rank) {
    return Judged(rank) && rank.progress.StepsDone() >= rank.progress.trust_steps;
  });
}

std::optional<ResumeFate> FateAfter(const FailureReport& failure, const std::vector<RankRecord>& ranks) {
  if (!ResumedFrom(ranks) || failure.first.rank < 0) return std::nullopt;
  if (std::ranges::any_of(ranks, [](const RankRecord& rank) { return rank.progress.diverged; })) {
    return ResumeFate::kDiverged;
  }
  const auto enough = [](const RankRecord& rank) {
    return Judged(rank) && rank.progress.StepsDone() >= rank.progress.trust_steps;
  };
  if (std::ranges::any_of(ranks, enough)) return std::nullopt;
  if (failure.failure_class == FailureClass::kCrash) return ResumeFate::kFailed;
  if (failure.failure_class == FailureClass::kUserError && failure.status < kFirstOfBelay) return ResumeFate::kFailed;
  return std::nullopt;
}

}  // namespace belay::launcher
