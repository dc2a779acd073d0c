// Is there room? Asked before any byte is copied: of the disk for a save, of the memory budget for staging. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "runtime/base/result.h"

namespace belay::checkpoint::commit {

struct DiskDemand {
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
};
// kNoSpace with the numbers in its message.
base::Status AdmitStaging(const MemoryDemand& demand);

}  // namespace belay::checkpoint::commit
