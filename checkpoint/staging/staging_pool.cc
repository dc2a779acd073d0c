#include "checkpoint/staging/staging_pool.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "runtime/base/fault_points.h"
#include "runtime/base/log.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {

namespace {
constexpr std::size_t kTouchBytes = 256 * base::kMiB;  // between two looks whether the memory is still wanted
}

base::Result<base::UniqueFd> StagingMemory::Descriptor() const {
  base::UniqueFd copy(::fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return base::FailErrno(errno, "cannot hand out staging memory");
  return copy;
}

base::Result<base::UniqueFd> StagingMemory::ReadOnlyDescriptor() const { return base::ReopenReadOnly(fd_.get()); }

StagingPool::StagingPool(int threads) : threads_(std::max(1, threads)), toucher_([this] { TouchLoop(); }) {}

StagingPool::~StagingPool() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  toucher_.join();
}

base::Status StagingPool::Allocate(const std::string& owner, base::Rank rank, std::uint64_t bytes) {
  BELAY_TRY(base::FaultPoint("staging.allocate"));
  base::SharedMemoryRequest request;
  request.name = base::Str("belay-staging:", owner, ":", rank).substr(0, 200);
  request.size_bytes = bytes;
  request.huge_pages = bytes % (2 * base::kMiB) == 0;
  BELAY_ASSIGN(base::UniqueFd fd, base::CreateSharedMemory(request));
  BELAY_ASSIGN(base::Mapping mapping, base::MapSharedMemory(fd.get(), bytes, base::MapAccess::kReadWrite));
  auto memory = std::make_shared<StagingMemory>(std::move(fd), std::move(mapping));
  {
    const std::scoped_lock lock(mutex_);
    memories_[{owner, rank}] = memory;
    untouched_.push_back(memory);
  }
  changed_.notify_all();
  return {};
}

void StagingPool::Free(const std::string& owner, base::Rank rank) {
  {
    const std::scoped_lock lock(mutex_);
    const auto found = memories_.find({owner, rank});
    if (found == memories_.end()) return;
    freed_.push_back(std::move(found->second));
    memories_.erase(found);
  }
  changed_.notify_all();
}

std::shared_ptr<StagingMemory> StagingPool::Find(const std::string& owner, base::Rank rank) const {
  const std::scoped_lock lock(mutex_);
  const auto found = memories_.find({owner, rank});
  return found == memories_.end() ? nullptr : found->second;
}

void StagingPool::WaitTouched() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return stopping_ || (untouched_.empty() && !touching_); });
}

void StagingPool::TouchLoop() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !untouched_.empty() || !freed_.empty(); });
    if (stopping_) return;
    if (!freed_.empty()) {
      // Before more is touched, so that the two are never there together.
      std::vector<std::shared_ptr<StagingMemory>> freed = std::exchange(freed_, {});
      lock.unlock();
      freed.clear();  // the kernel takes its time for hundreds of gigabytes
      lock.lock();
      continue;
    }
    const std::weak_ptr<StagingMemory> next = untouched_.front();
    untouched_.pop_front();
    touching_ = true;
    for (std::size_t at = 0; !stopping_; at += kTouchBytes) {
      lock.unlock();
      bool done = true;
      if (const auto memory = next.lock(); memory && at < memory->bytes().size()) {
        const auto piece = memory->bytes().subspan(at, std::min(kTouchBytes, memory->bytes().size() - at));
        // A failure is no loss but of speed: the trainer's first copy touches the pages then.
        const base::Status touched = base::TouchPages(piece, threads_);
        if (!touched) base::LogWarning("staging_not_touched", {{"why", touched.error().Text()}});
        done = !touched;
      }
      lock.lock();
      if (done) break;
    }
    touching_ = false;
    changed_.notify_all();
  }
}

}  // namespace belay::checkpoint
