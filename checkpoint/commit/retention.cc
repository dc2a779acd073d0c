#include "checkpoint/commit/retention.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <set>

namespace belay::checkpoint::commit {

namespace {

// Of all that lie between two multiples of `keep_every` the first: what comes later never takes its place. Before the
// first multiple there is no milestone.
void KeepMilestones(const std::vector<const RetentionCandidate*>& newest_first, const Retention& policy,
                    std::set<CheckpointId>& kept) {
  std::map<std::int64_t, CheckpointId> first;  // by the multiple
  for (const RetentionCandidate* candidate : newest_first) {
    const std::int64_t multiple = candidate->id.step.value() / policy.keep_every;
    if (multiple < 1) continue;
    const auto [found, added] = first.emplace(multiple, candidate->id);
    if (!added && candidate->id.step < found->second.step) found->second = candidate->id;
  }
  for (const auto& [multiple, id] : first) kept.insert(id);
}

void KeepBest(const std::vector<const RetentionCandidate*>& newest_first, const Retention& policy,
              std::set<CheckpointId>& kept) {
  struct Scored {
    double value;
    CheckpointId id;
  };
  std::vector<Scored> scored;
  for (const RetentionCandidate* candidate : newest_first) {
    const auto metric = candidate->metrics.find(policy.metric);
    if (metric != candidate->metrics.end() && std::isfinite(metric->second)) {
      scored.push_back({policy.larger_is_better ? -metric->second : metric->second, candidate->id});
    }
  }
  std::stable_sort(scored.begin(), scored.end(), [](const Scored& a, const Scored& b) { return a.value < b.value; });
  for (std::size_t i = 0; i < scored.size() && i < policy.keep_best; ++i) kept.insert(scored[i].id);
}

}  // namespace

std::vector<CheckpointId> ChooseDeletions(const std::vector<RetentionCandidate>& candidates, const Retention& policy) {
  std::vector<const RetentionCandidate*> newest_first;
  for (const RetentionCandidate& candidate : candidates) newest_first.push_back(&candidate);
  std::sort(newest_first.begin(), newest_first.end(),
            [](const RetentionCandidate* a, const RetentionCandidate* b) { return a->id > b->id; });

  std::set<CheckpointId> kept;
  const std::size_t keep_last = std::max<std::size_t>(1, policy.keep_last);
  std::size_t good = 0;
  for (const RetentionCandidate* candidate : newest_first) {
    if (good < keep_last || candidate->pinned || candidate->in_use) kept.insert(candidate->id);
    if (!candidate->quarantined) ++good;
  }
  std::erase_if(newest_first, [](const RetentionCandidate* candidate) { return candidate->quarantined; });
  if (policy.keep_every != 0) KeepMilestones(newest_first, policy, kept);
  if (policy.keep_best != 0) KeepBest(newest_first, policy, kept);

  std::vector<CheckpointId> deletions;
  for (const RetentionCandidate& candidate : candidates) {
    if (!kept.contains(candidate.id)) deletions.push_back(candidate.id);
  }
  std::sort(deletions.begin(), deletions.end());
  return deletions;
}

}  // namespace belay::checkpoint::commit
