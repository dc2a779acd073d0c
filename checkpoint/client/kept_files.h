// Which files of a rank a save may leave in staging memory as an earlier save left them, and how to be sure. Pure.
//
// Frozen tensors do not change, says the program; torch's version counters say the same, but a write past torch
// (through .data(), or a kernel of the program's own) is not counted. So each save that leaves a file alone compares a
// probe of every piece of it, at most 64 bytes at a place that differs from save to save, with what the staging memory
// holds: an update of a whole tensor cannot hide, and a frozen model of any size costs next to nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "checkpoint/client/staging_plan.h"

namespace belay::checkpoint {

inline constexpr std::uint64_t kProbeBytes = 64;

// The copies of one save, with addresses in the staging memory, and the chunks that they fill.
struct SaveWork {
  std::vector<Copier::Copy> copies;  // of the chunks in order; then of the probes
  std::vector<StagedChunk> chunks;   // first_copy and last_copy count in `copies`
  struct Probe {
    std::size_t file = 0;
    const std::byte* kept = nullptr;   // in the image
    const std::byte* fresh = nullptr;  // where its copy lands
    std::uint64_t bytes = 0;
  };
  std::vector<Probe> probes;
};

// `keep[f]`: leave file f alone, which must be frozen. `seed`: chooses the places of the probes.
SaveWork PlanSave(const StagingPlan& plan, std::span<std::byte> staging, const std::vector<bool>& keep,
                  std::uint64_t seed);

// Once the copies have landed: the first file whose source is not what its image holds, or none.
std::optional<std::size_t> FindChanged(const SaveWork& work);

}  // namespace belay::checkpoint
