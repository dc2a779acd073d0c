// Staging memory: where a rank's snapshot lies between the copy out of the trainer and the disk, and after it, until
// the next one. The daemon holds it, so it outlives the trainer.
//
// One memfd a (owner name, rank, buffer). Its pages are touched in the background, because first touch is ten times
// slower than a copy into touched pages; touching never changes a byte, so a trainer may write meanwhile. The memory
// budget is the commit core's decision (checkpoint/commit/admission.h). Thread-safe.
//
// Memory lies on the NUMA node that its rank asks for, if there is room: the mapping is told before a page is touched,
// and the threads that touch it run there. What cannot be is logged, and the memory lies elsewhere.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/base/ids.h"
#include "runtime/base/numa.h"
#include "runtime/base/result.h"
#include "runtime/base/shared_memory.h"
#include "runtime/base/unique_fd.h"

namespace belay::checkpoint {

// One rank's memory. Lives as long as anybody holds it, also after the pool freed it: a write under way goes on.
class StagingMemory {
 public:
  StagingMemory(base::UniqueFd fd, base::Mapping mapping) : fd_(std::move(fd)), mapping_(std::move(mapping)) {}
  std::span<std::byte> bytes() const { return mapping_.bytes(); }
  // For the trainer: may write.
  base::Result<base::UniqueFd> Descriptor() const;
  // For a restore: may not.
  base::Result<base::UniqueFd> ReadOnlyDescriptor() const;
  // For the daemon that takes this one's place. Stays this memory's own.
  int number() const { return fd_.get(); }

 private:
  base::UniqueFd fd_;
  base::Mapping mapping_;
};

// The memory behind an inherited descriptor, mapped. kInvalidArgument: it is none whose size is sealed, or smaller.
base::Result<std::shared_ptr<StagingMemory>> MapStaging(base::UniqueFd fd, std::uint64_t bytes);

struct StagingKey {
  std::string owner;
  base::Rank rank;
  std::size_t buffer = 0;
  friend auto operator<=>(const StagingKey&, const StagingKey&) = default;
};

using Touched = std::function<void(const base::Status& status)>;

class StagingPool {
 public:
  // `threads` touch pages side by side.
  explicit StagingPool(int threads, base::Numa& numa = base::MachineNuma());
  ~StagingPool();

  // New zeroed memory in place of what the key had, on this NUMA node if that can be. kOutOfMemory. `touched` is called
  // on a thread of the pool when its pages are there, or cannot be had: then the memory is freed. Not if it was before.
  base::Status Allocate(const StagingKey& key, std::uint64_t bytes,
                        std::optional<std::int32_t> numa_node = std::nullopt, Touched touched = {});
  // Memory that is there already, from the daemon before this one. Touched again: for this process's page table.
  void TakeUp(const StagingKey& key, std::shared_ptr<StagingMemory> memory, std::optional<std::int32_t> numa_node,
              Touched touched = {});
  // The rank's buffers from this one on.
  void Free(const std::string& owner, base::Rank rank, std::size_t from_buffer = 0);
  // Null if there is none.
  std::shared_ptr<StagingMemory> Find(const StagingKey& key) const;
  // Returns once all memory made so far is touched. For tests and measurements.
  void WaitTouched();

 private:
  struct Untouched {
    std::weak_ptr<StagingMemory> memory;
    StagingKey key;
    std::optional<std::int32_t> numa_node;
    Touched touched;
  };
  void Prefer(const StagingKey& key, std::span<std::byte> bytes, std::int32_t node);
  void LogPlace(const Untouched& touched) const;
  void TouchLoop();

  const int threads_;
  base::Numa& numa_;
  std::atomic<bool> said_machine_refuses_ = false;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<StagingKey, std::shared_ptr<StagingMemory>> memories_;  // guarded by mutex_
  std::deque<Untouched> untouched_;                                // guarded by mutex_
  std::vector<std::shared_ptr<StagingMemory>> freed_;              // to be let go of; guarded by mutex_
  bool touching_ = false;                                          // guarded by mutex_
  bool stopping_ = false;                                          // guarded by mutex_
  std::thread toucher_;
};

}  // namespace belay::checkpoint
