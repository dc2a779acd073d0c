// The state of a job of two ranks, small enough that every way of losing a part of it can be tried: a shard of three
// pages, one of two and records for each rank. Every byte follows from the checkpoint's step and generation. A job that
// has a frozen part writes one shard more, of two pages, which is the same in all checkpoints.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "checkpoint/commit/actions.h"
#include "checkpoint/format/layout.h"
#include "runtime/base/file_system.h"

namespace belay::crash {

inline constexpr std::int32_t kWorld = 2;

checkpoint::RankLayout SmallLayout(std::int32_t rank, bool frozen);

// A rank's staging memory, full, and the order to write it.
struct SealedRank {
  std::vector<std::byte> staging;
  checkpoint::commit::StartWrite order;
};
// What a job with a frozen part has: the save whose image of it lies in staging memory, which may be this one.
struct Frozen {
  checkpoint::commit::CheckpointId origin;
};
SealedRank SealRank(const checkpoint::commit::JobKey& job, const checkpoint::commit::CheckpointId& id,
                    std::int32_t rank, const std::optional<Frozen>& frozen);

// Restores all of the checkpoint in `directory` and compares every byte. Empty if it is what SealRank put there.
std::string CompareRestored(base::FileSystem& files, const std::string& directory,
                            const checkpoint::commit::CheckpointId& id, bool frozen);

}  // namespace belay::crash
