#include "launcher/supervise/supervisor_state.h"

#include <algorithm>

namespace belay::launcher {

std::string_view Name(Outcome outcome) {
  switch (outcome) {
    case Outcome::kNone:
      return "none";
    case Outcome::kDone:
      return "done";
    case Outcome::kPreempted:
      return "preempted";
    case Outcome::kStoppedUnsaved:
      return "stopped_unsaved";
    case Outcome::kFailed:
      return "failed";
    case Outcome::kInterrupted:
      return "interrupted";
  }
  return "unknown";
}

std::int64_t SupervisorState::StepsDone() const {
  std::int64_t most = 0;
  for (const RankRecord& rank : ranks) most = std::max(most, rank.progress.attached ? rank.progress.StepsDone() : 0);
  return most;
}

std::int64_t SupervisorState::CommittedStep() const {
  std::int64_t newest = -1;
  for (const RankRecord& rank : ranks) newest = std::max(newest, rank.progress.committed_step);
  return newest;
}

bool SupervisorState::AnyAttached() const {
  return std::ranges::any_of(ranks, [](const RankRecord& r) { return r.progress.attached; });
}

std::optional<base::SteadyTime> NextDeadline(const SupervisorState& state) {
  std::optional<base::SteadyTime> next = state.deadline;
  const auto sooner = [&next](const std::optional<base::SteadyTime>& time) {
    if (time && (!next || *time < *next)) next = time;
  };
  if (state.job == JobState::kRunning) sooner(state.time_limit_at);
  if (state.job == JobState::kStopping) sooner(state.terminate_at);
  return next;
}

}  // namespace belay::launcher
