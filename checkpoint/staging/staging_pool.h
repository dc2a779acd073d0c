// Staging memory: where a rank's snapshot lies between the copy out of the trainer and the disk, and after it, until
// the next one. The daemon holds it, so it outlives the trainer.
//
// One memfd a (owner name, rank). Its pages are touched in the background, because first touch is ten times slower than
// a copy into touched pages; touching never changes a byte, so a trainer may write meanwhile. The memory budget is the
// commit core's decision (checkpoint/commit/admission.h). Thread-safe.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "runtime/base/ids.h"
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

 private:
  base::UniqueFd fd_;
  base::Mapping mapping_;
};

class StagingPool {
 public:
  // `threads` touch pages side by side.
  explicit StagingPool(int threads);
  ~StagingPool();

  // New zeroed memory in place of what the key had. kOutOfMemory.
  base::Status Allocate(const std::string& owner, base::Rank rank, std::uint64_t bytes);
  void Free(const std::string& owner, base::Rank rank);
  // Null if there is none.
  std::shared_ptr<StagingMemory> Find(const std::string& owner, base::Rank rank) const;
  // Returns once all memory made so far is touched. For tests and measurements.
  void WaitTouched();

 private:
  using Key = std::pair<std::string, base::Rank>;
  void TouchLoop();

  const int threads_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::map<Key, std::shared_ptr<StagingMemory>> memories_;  // guarded by mutex_
  std::deque<std::weak_ptr<StagingMemory>> untouched_;      // guarded by mutex_
  std::vector<std::shared_ptr<StagingMemory>> freed_;       // to be let go of; guarded by mutex_
  bool touching_ = false;                                   // guarded by mutex_
  bool stopping_ = false;                                   // guarded by mutex_
  std::thread toucher_;
};

}  // namespace belay::checkpoint
