// How fast this machine's memory and disk are for belay, measured with the code that the service itself runs.
//
// The disk is measured in a file that has lost its name before the first byte is written: however the measurement ends,
// its space is given back by the kernel.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "runtime/base/clock.h"
#include "runtime/base/file_system.h"

namespace belay::checkpoint::cli {

struct BenchRequest {
  std::string folder;       // an existing one
  std::uint64_t bytes = 0;  // of the file
  int threads = 1;          // for what the service does on several
  base::BulkShape shape{};  // as the file is written and read
};

// Bytes a second each.
struct BenchFigures {
  std::uint64_t memory_bytes = 0;  // of the staging memory used: all of it, or the file goes through it in turns
  double first_touch = 0;          // fresh staging memory, which a job's first save meets
  double copy = 0;                 // memcpy into touched staging memory, one thread
  double digest = 0;               // XXH3-128 of chunks, one thread
  double copy_and_digest = 0;      // both, on `threads` threads: what a snapshot does
  double write = 0;                // until the last write returns
  double write_and_sync = 0;       // until the file is durable
  double read_direct = 0;          // as a bulk read: past the page cache where that is possible
  double read_buffered = 0;        // through the page cache, which holds none of it at first
};

// Blocks for as long as the disk takes. `said` hears what is being measured. kNoSpace with numbers, before anything is
// written; kNotFound, kPermissionDenied and so on of the folder.
base::Result<BenchFigures> RunBench(base::FileSystem& files, base::Clock& clock, const BenchRequest& request,
                                    const std::function<void(std::string_view)>& said);

// What the figures mean for a state of so many bytes.
struct BenchMeaning {
  double stall_seconds = 0;   // at most: the copy, if it is not hidden behind the next forward and backward pass
  double commit_seconds = 0;  // from the snapshot's begin until it is durable
  double restore_disk_seconds = 0, restore_memory_seconds = 0;
  double first_save_seconds = 0;  // the pages of staging memory are found once a job, beside the training
};
BenchMeaning MeaningOf(const BenchFigures& figures, std::uint64_t state_bytes);

}  // namespace belay::checkpoint::cli
