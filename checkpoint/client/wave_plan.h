// How a state passes through staging memory that is smaller than it: in waves, each of which is filled while the one
// before it is written. Pure.
//
//   window:  | half 0: wave 0, 2, 4, ... | half 1: wave 1, 3, 5, ... |     after the last one: | headers |
//
// A wave is a run of digest chunks in file order, so each goes to its file as one piece or a few. The headers come
// last, because they hold the digests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "checkpoint/client/staging_plan.h"

namespace belay::checkpoint {

struct WavePiece {
  std::size_t file = 0;           // index into the plans
  std::uint64_t file_offset = 0;  // header included; multiple of 4096
  std::uint64_t offset = 0;       // in the window; multiple of 4096
  std::uint64_t bytes = 0;
};

struct Wave {
  std::vector<StagedCopy> copies;   // destinations in the window, side by side within a chunk
  std::vector<StagedChunk> chunks;  // offsets in the window; first_copy and last_copy count in `copies`
  std::vector<WavePiece> pieces;
};

struct WavePlan {
  std::vector<std::uint64_t> header_offsets;  // per file, in the window
  std::vector<Wave> waves;
};

// The smallest window: two chunks, or all headers.
std::uint64_t WindowBytesMin(const StagingPlan& plan, const std::vector<ShardPlan>& plans);

// `window_bytes`: at least WindowBytesMin.
WavePlan PlanWaves(const StagingPlan& plan, const std::vector<ShardPlan>& plans, std::uint64_t window_bytes);

}  // namespace belay::checkpoint
