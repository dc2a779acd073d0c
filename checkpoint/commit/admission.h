// Is there room? Asked before any byte is copied: of the disk for a save, of the memory budget for staging. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "runtime/base/result.h"

namespace belay::checkpoint::commit {

// A data folder that is written to.
struct FolderSpace {
  std::string path;
  std::uint64_t device = 0;  // folders with the same share their space
  std::uint64_t available_bytes = 0;
  std::optional<base::Error> missing;  // it is not there: nothing can be saved
};

struct DiskDemand {
  std::string where;                 // which of several disks, for the message; empty: there is one only
  std::uint64_t needed_bytes = 0;    // of all ranks of this save
  std::uint64_t promised_bytes = 0;  // to saves of other jobs that are not on disk yet
  std::uint64_t reserve_bytes = 0;   // left free for the index, manifests and logs
  std::uint64_t available_bytes = 0;
};
// kNoSpace with the numbers in its message.
base::Status AdmitSave(const DiskDemand& demand);

struct MemoryDemand {
  std::uint64_t asked_bytes = 0;
  std::uint64_t held_bytes = 0;  // by other staging memory
  std::uint64_t budget_bytes = 0;
  std::uint64_t spare_bytes = 0;  // to be left free beside it, for ranks to come
  std::int32_t world_size = 1;
  std::uint64_t absent_ranks = 0;  // of the run, which will ask for about as much
};
// kNoSpace with the numbers in its message, and the budget that would do.
base::Status AdmitStaging(const MemoryDemand& demand);

// A window of this size keeps a disk busy: while half of it is written the other half is filled. More is no faster.
inline constexpr std::uint64_t kWindowBytes = std::uint64_t{512} << 20;
struct WindowDemand {
  std::uint64_t asked_bytes = 0;       // the rank's whole state
  std::uint64_t window_min_bytes = 0;  // what it can do with
  std::uint64_t held_bytes = 0;
  std::uint64_t budget_bytes = 0;
  std::uint64_t ranks_to_come = 0;  // of the same run, that have no staging memory yet
};
// This rank's fair share of what is free, kWindowBytes at most, a multiple of 4 KiB; may be less than the least.
std::uint64_t ChooseWindow(const WindowDemand& demand);

}  // namespace belay::checkpoint::commit
