// Where each file's image lies in a rank's staging memory, and the copies and digest chunks that fill it. Pure.
//
//   | file 0: header, data chunk 0, chunk 1, ... | gap | file 1: header, data ... |
//
// An image begins at a multiple of 4 KiB (2 MiB for large ones, so that huge pages are not shared), which is what
// direct I/O wants. Chunks count from the start of a file's data section, as its digests do. No copy crosses a chunk's
// border, so a chunk can be digested as soon as its last copy has landed. Offsets are from the start of the staging
// memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "checkpoint/client/snapshotter.h"

namespace belay::checkpoint {

struct StagedCopy {
  const std::byte* source = nullptr;
  std::uint64_t destination = 0;
  std::uint64_t bytes = 0;
};

struct StagedChunk {
  std::size_t file = 0;   // index into the plans
  std::size_t chunk = 0;  // of that file's data section
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::size_t first_copy = 0, last_copy = 0;  // what fills it
};

struct StagingPlan {
  std::vector<std::uint64_t> file_offsets;
  std::vector<StagedCopy> copies;   // in the order of destinations
  std::vector<StagedChunk> chunks;  // likewise
  // Behind the images: room for a probe of each copy of a frozen file (kept_files.h), none if there is no such file.
  std::uint64_t probe_offset = 0;
  std::uint64_t bytes = 0;  // a multiple of 4 KiB; 4 KiB at least
};

// kInvalidArgument if sources do not fit the plans, or entries do not tile a data section.
base::Result<StagingPlan> PlanStaging(const std::vector<ShardPlan>& plans,
                                      const std::vector<std::vector<Source>>& sources);

}  // namespace belay::checkpoint
