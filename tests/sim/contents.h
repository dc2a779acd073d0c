// What a rank's state is made of in the simulation: bytes that say of which job, generation, step and place they are,
// so that a checkpoint that mixes two is seen. And how a rank stages them, with the client's own planning.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/client/restorer.h"
#include "checkpoint/client/staging_plan.h"
#include "checkpoint/commit/types.h"
#include "checkpoint/protocol/belayd.pb.h"

namespace belay::checkpoint::sim {

// The bytes a tensor has at a checkpoint; `frozen` ones are the same at all.
struct TensorKind {
  std::string part, name;
  std::vector<std::int64_t> shape;  // U8
  bool sharded = false;             // along dimension 0 among the ranks; else all hold it alike
  bool frozen = false;
  std::string FullName() const { return part + "." + name; }
};
const std::vector<TensorKind>& TensorKinds();
std::vector<std::byte> GlobalBytes(const TensorKind& tensor, const commit::JobKey& job, const commit::CheckpointId& id);
Records RecordsOf(const commit::JobKey& job, const commit::CheckpointId& id, int rank);

// One rank's side of a save.
class RankState {
 public:
  RankState(commit::JobKey job, int rank, int world);
  std::uint64_t staging_bytes() const { return staging_.bytes; }
  const std::string& fingerprint() const { return fingerprint_; }

  void Become(const commit::CheckpointId& id);
  // Says of which step it is, whatever the bytes are: for a scenario that lies.
  void SetId(const commit::CheckpointId& id) { id_ = id; }
  // The n-th of kPortions portions of the copy, so that a rank can die between two.
  static constexpr int kPortions = 3;
  void CopyPortion(int portion, std::span<std::byte> staging) const;
  // After all portions: digests and headers into the staging memory. What is to be asked.
  wire::SealSnapshot Seal(std::span<std::byte> staging);

 private:
  const commit::JobKey job_;
  const int rank_, world_;
  commit::CheckpointId id_;
  std::vector<ShardPlan> plans_;
  std::vector<std::vector<std::byte>> buffers_;  // a whole tensor each
  StagingPlan staging_;
  std::string fingerprint_;
};

// Reads all of a checkpoint and compares. Empty: it is whole and of this job, generation and step.
std::string Compare(Restorer& restorer, const commit::JobKey& job, const commit::CheckpointId& id);

}  // namespace belay::checkpoint::sim
