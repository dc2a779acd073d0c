// The restore planner: which bytes of which files must be read, and where they go, to fill the wanted boxes.
//
// Pure. Saved boxes are intersected with wanted ones, so any world size reads any checkpoint. Reads are whole digest
// chunks, because a part of a chunk cannot be checked; neighbouring chunks are joined. Every wanted byte is written
// exactly once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/format/boxes.h"
#include "checkpoint/format/digest.h"
#include "checkpoint/format/shard_file.h"
#include "runtime/base/result.h"

namespace belay::checkpoint {

// What the program wants: its target holds the box's row-major bytes.
struct WantedBox {
  std::string name;  // "<part>.<tensor>"
  DType dtype = DType::kF32;
  std::vector<std::int64_t> global_shape;
  Box box;
};

// A run of one read: `run.source` counts from the start of the file's data section, `run.destination` in the target.
struct TargetRun {
  std::size_t target = 0;  // index into the wanted boxes
  Run run;                 // never across the border of a chunk
};

// Chunks that follow each other in one file.
struct PlannedRead {
  std::size_t file = 0;          // index into the saved files
  std::uint64_t file_begin = 0;  // in the file: the header's bytes plus data_begin
  std::uint64_t data_begin = 0;  // in the data section: a multiple of kChunkBytes
  std::uint64_t data_end = 0;    // a multiple of kChunkBytes or the end of the data
  std::vector<TargetRun> runs;   // by source; at least one in every chunk
  std::uint64_t bytes() const { return data_end - data_begin; }
};

// Reads sorted by file and offset, none longer than `read_bytes_max` (at least one chunk). `saved` are the files'
// decoded plans; file i of the answer is saved[i]. Wanted boxes may be empty, and may overlap each other.
// kLayoutMismatch: no file has a tensor of this name, or its dtype or global shape differs from the wanted or between
// files. kIncomplete: no file has a part of a wanted box, or two files have the same part. Both name the tensor.
// kInvalidArgument: a wanted box is not inside its shape.
base::Result<std::vector<PlannedRead>> PlanReads(const std::vector<const ShardPlan*>& saved,
                                                 const std::vector<WantedBox>& wanted,
                                                 std::uint64_t read_bytes_max = kChunkBytes);

}  // namespace belay::checkpoint
