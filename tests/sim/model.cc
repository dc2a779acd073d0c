#include "tests/sim/model.h"

#include <algorithm>

namespace belay::checkpoint::sim {

void Model::Granted(const commit::JobKey& job, base::Generation generation) {
  base::Generation& granted = jobs_[job].granted;
  if (generation <= granted) {
    violated_(base::Str("job ", job, " is granted generation ", generation, " after ", granted));
  }
  granted = std::max(granted, generation);
}

void Model::Begun(const commit::JobKey& job, const commit::CheckpointId& id) {
  Fact& fact = Of(job, id);
  if (fact.told_committed && !MayBeGone(job, id)) {
    violated_(base::Str(id, " of ", job, " is begun again; it is committed"));
  }
  fact.told_failed = false;
}

void Model::Writing(const commit::JobKey& job, const commit::CheckpointId& id, int rank) {
  Of(job, id).sealing.erase(rank);
}

void Model::Sealing(const commit::JobKey& job, const commit::CheckpointId& id, int rank, int world) {
  Fact& fact = Of(job, id);
  fact.world = world;
  fact.sealing.insert(rank);
}

bool Model::Told(const commit::JobKey& job, const commit::CheckpointId& id, const wire::SnapshotOutcome& outcome) {
  Fact& fact = Of(job, id);
  if (outcome.state() == wire::COMMITTED) {
    if (!fact.Sealed()) violated_(base::Str(id, " of ", job, " is committed, not all ranks sealed it"));
    if (fact.told_failed) violated_(base::Str(id, " of ", job, " is committed after it failed"));
    fact.told_committed = true;
    return true;
  }
  if (outcome.state() != wire::FAILED) return false;
  // A daemon that knows nothing of a step has lost its memory of it or has removed it, and says so (kNotFound).
  if (outcome.failure().code() == static_cast<std::uint32_t>(base::Code::kNotFound)) return true;
  if (fact.told_committed && !MayBeGone(job, id)) {
    violated_(base::Str(id, " of ", job, " has failed after it was committed"));
  }
  fact.told_failed = true;
  return true;
}

void Model::Named(const commit::JobKey& job, const commit::CheckpointId& id) {
  JobFacts& facts = jobs_[job];
  Fact& fact = facts.checkpoints[id];
  fact.named = true;
  if (!fact.Sealed()) violated_(base::Str(id, " of ", job, " gets its manifest, not all ranks sealed it"));
  if (id.generation < facts.granted) {
    violated_(base::Str(id, " of ", job, " gets its manifest; generation ", facts.granted, " has begun"));
  }
}

bool Model::MayBeGone(const commit::JobKey& job, const commit::CheckpointId& id) const {
  const JobFacts& facts = jobs_.at(job);
  const Fact& fact = facts.checkpoints.at(id);
  if (fact.remove_asked) return true;
  if (fact.pin == Fact::Pin::kYes) return false;
  std::uint32_t newer = 0;
  bool milestone = facts.keep_every != 0 && static_cast<std::uint64_t>(id.step.value()) >= facts.keep_every;
  for (const auto& [other, there] : facts.checkpoints) {
    // What was removed by somebody and saved again may have failed the second time only.
    const bool failed = there.told_failed && !there.told_committed && !there.remove_asked;
    if (other == id || !there.named || failed) continue;
    if (other > id) ++newer;
    if (!milestone || other.step.value() / facts.keep_every != id.step.value() / facts.keep_every) continue;
    if (other.step < id.step || (other.step == id.step && other.generation > id.generation)) milestone = false;
  }
  return newer >= facts.keep_last && !milestone;
}

std::optional<commit::CheckpointId> Model::NewestCertain(const commit::JobKey& job) const {
  const auto facts = jobs_.find(job);
  if (facts == jobs_.end()) return std::nullopt;
  const auto& all = facts->second.checkpoints;
  for (auto at = all.rbegin(); at != all.rend(); ++at) {
    if (at->second.told_committed && !at->second.damaged && !MayBeGone(job, at->first)) return at->first;
  }
  return std::nullopt;
}

void Model::CheckPoints(const commit::JobKey& job, const wire::RestorePointList& list,
                        const std::optional<commit::CheckpointId>& certain) {
  std::optional<commit::CheckpointId> before;
  bool found = !certain;
  for (const wire::RestorePoint& point : list.points()) {
    const commit::CheckpointId id{base::Generation(point.generation()), base::Step(point.step())};
    if (before && *before < id) violated_(base::Str("restore points of ", job, " are not newest first"));
    before = id;
    if (!Of(job, id).Sealed()) violated_(base::Str(id, " of ", job, " is to be had, not all ranks sealed it"));
    if (point.committed() && certain && id == *certain) found = true;
  }
  // It may have gone between the question and the answer.
  if (!found && !MayBeGone(job, *certain) && !Of(job, *certain).damaged) {
    violated_(base::Str(*certain, " of ", job, " was reported committed and is not among the restore points"));
  }
}

}  // namespace belay::checkpoint::sim
