// The expected state: what a job's checkpoints must and may be, learnt only from what its programs asked and were told.
// It knows nothing of the daemon's state, so the two can disagree, and then one is wrong.
//
//   asked to seal by all ranks   may be committed, not before
//   told committed               must restore to its bytes, until somebody asked to remove it or newer ones replace it
//   granted                      older generations commit nothing more
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "checkpoint/commit/types.h"
#include "checkpoint/protocol/belayd.pb.h"

namespace belay::checkpoint::sim {

struct Fact {
  int world = 0;
  std::set<int> sealing;  // ranks that asked to seal it
  bool named = false;     // its manifest has had its name
  bool told_committed = false;
  bool told_failed = false;
  bool remove_asked = false;
  bool damaged = false;  // by bit rot
  bool gone = false;     // was committed and is not there any more, as it may be
  enum class Pin : std::uint8_t { kNo, kYes, kUnsure } pin = Pin::kNo;
  bool Sealed() const { return world > 0 && sealing.size() == static_cast<std::size_t>(world); }
};

class Model {
 public:
  using Violated = std::function<void(const std::string&)>;
  explicit Model(Violated violated) : violated_(std::move(violated)) {}

  struct JobFacts {
    base::Generation granted;
    std::uint32_t keep_last = 1, keep_every = 0;
    std::map<commit::CheckpointId, Fact> checkpoints;
  };
  JobFacts& Of(const commit::JobKey& job) { return jobs_[job]; }
  const std::map<commit::JobKey, JobFacts>& jobs() const { return jobs_; }
  Fact& Of(const commit::JobKey& job, const commit::CheckpointId& id) { return jobs_[job].checkpoints[id]; }

  void Granted(const commit::JobKey& job, base::Generation generation);
  // A rank may copy once every other may.
  void Begun(const commit::JobKey& job, const commit::CheckpointId& id);
  // It does. What it sealed before of the same step counts no more; until then it does (PROTOCOL.md, Memory).
  void Writing(const commit::JobKey& job, const commit::CheckpointId& id, int rank);
  void Sealing(const commit::JobKey& job, const commit::CheckpointId& id, int rank, int world);
  // True if that is the end of it.
  bool Told(const commit::JobKey& job, const commit::CheckpointId& id, const wire::SnapshotOutcome& outcome);
  // A manifest has its name.
  void Named(const commit::JobKey& job, const commit::CheckpointId& id);

  // What must be among the restore points of somebody who asks now: the newest that nothing can have removed.
  std::optional<commit::CheckpointId> NewestCertain(const commit::JobKey& job) const;
  // Is what the daemon lists possible, and is the newest that was certain when it was asked not missing?
  void CheckPoints(const commit::JobKey& job, const wire::RestorePointList& list,
                   const std::optional<commit::CheckpointId>& certain);
  // Removed on purpose, or replaced by enough newer ones.
  bool MayBeGone(const commit::JobKey& job, const commit::CheckpointId& id) const;

 private:
  const Violated violated_;
  std::map<commit::JobKey, JobFacts> jobs_;
};

}  // namespace belay::checkpoint::sim
