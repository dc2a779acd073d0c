// The state of a job of two ranks, small enough that every way of losing a part of it can be tried: a shard of three
// pages, one of two and records for each rank. Every byte follows from the checkpoint's step and generation.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/commit/actions.h"
#include "checkpoint/format/layout.h"
#include "runtime/base/file_system.h"

namespace belay::crash {

inline constexpr std::int32_t kWorld = 2;

checkpoint::RankLayout SmallLayout(std::int32_t rank);

// A rank's staging memory, full, and the order to write it.
struct SealedRank {
  std::vector<std::byte> staging;
  checkpoint::commit::StartWrite order;
};
SealedRank SealRank(const checkpoint::commit::JobKey& job, const checkpoint::commit::CheckpointId& id,
                    std::int32_t rank);

// Restores all of the checkpoint in `directory` and compares every byte. Empty if it is what SealRank put there.
std::string CompareRestored(base::FileSystem& files, const std::string& directory,
                            const checkpoint::commit::CheckpointId& id);

}  // namespace belay::crash
