#include "checkpoint/staging/staging_pool.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "runtime/base/fault_points.h"
#include "runtime/base/host.h"
#include "runtime/base/log.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {

namespace {
constexpr std::size_t kTouchBytes = 256 * base::kMiB;  // between two looks whether the memory is still wanted

std::string NameOf(const StagingKey& key) {
  return base::Str(key.owner, " rank ", key.rank, key.buffer == 0 ? "" : base::Str(" buffer ", key.buffer));
}
}  // namespace

base::Result<base::UniqueFd> StagingMemory::Descriptor() const {
  base::UniqueFd copy(::fcntl(fd_.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return base::FailErrno(errno, "cannot hand out staging memory");
  return copy;
}

base::Result<base::UniqueFd> StagingMemory::ReadOnlyDescriptor() const { return base::ReopenReadOnly(fd_.get()); }

base::Result<std::shared_ptr<StagingMemory>> MapStaging(base::UniqueFd fd, std::uint64_t bytes) {
  BELAY_ASSIGN(const std::uint64_t sealed, base::SealedSize(fd.get()));
  if (sealed < bytes) {
    return base::Fail(base::Code::kInvalidArgument, "staging memory of ", sealed, " bytes, ", bytes,
                      " were handed over");
  }
  BELAY_ASSIGN(base::Mapping mapping, base::MapSharedMemory(fd.get(), bytes, base::MapAccess::kReadWrite));
  return std::make_shared<StagingMemory>(std::move(fd), std::move(mapping));
}

StagingPool::StagingPool(int threads, base::Numa& numa)
    : threads_(std::max(1, threads)), numa_(numa), toucher_([this] { TouchLoop(); }) {}

StagingPool::~StagingPool() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  toucher_.join();
}

base::Status StagingPool::Allocate(const StagingKey& key, std::uint64_t bytes, std::optional<std::int32_t> numa_node,
                                   Touched touched) {
  BELAY_TRY(base::FaultPoint("staging.allocate"));
  // Huge pages beyond the reserved ones are taken when the memory is made, near the thread that asks.
  const base::StayOnCores stay(numa_node ? numa_.Cores(*numa_node) : std::vector<int>());
  base::SharedMemoryRequest request;
  request.name = base::Str("belay-staging:", key.owner, ":", key.rank).substr(0, 200);
  request.size_bytes = bytes;
  request.huge_pages = bytes % (2 * base::kMiB) == 0;
  BELAY_ASSIGN(base::UniqueFd fd, base::CreateSharedMemory(request));
  BELAY_ASSIGN(base::Mapping mapping, base::MapSharedMemory(fd.get(), bytes, base::MapAccess::kReadWrite));
  if (numa_node) Prefer(key, mapping.bytes(), *numa_node);
  TakeUp(key, std::make_shared<StagingMemory>(std::move(fd), std::move(mapping)), numa_node, std::move(touched));
  return {};
}

void StagingPool::TakeUp(const StagingKey& key, std::shared_ptr<StagingMemory> memory,
                         std::optional<std::int32_t> numa_node, Touched touched) {
  {
    const std::scoped_lock lock(mutex_);
    untouched_.push_back({memory, key, numa_node, std::move(touched)});
    memories_[key] = std::move(memory);
  }
  changed_.notify_all();
}

// Before the memory is in anybody's hands.
void StagingPool::Prefer(const StagingKey& key, std::span<std::byte> bytes, std::int32_t node) {
  const base::Status preferred = numa_.Prefer(bytes, node);
  if (preferred) return;
  // A bad node is the rank's mistake and worth a line each time; a machine that refuses will refuse again.
  const bool is_bad_node = preferred.error().code == base::Code::kInvalidArgument;
  if (!is_bad_node && said_machine_refuses_.exchange(true)) return;
  base::LogWarning("staging_not_bound",
                   {{"memory", NameOf(key)}, {"numa_node", node}, {"why", preferred.error().Text()}});
}

void StagingPool::LogPlace(const Untouched& touched) const {
  const auto memory = touched.memory.lock();
  if (!memory) return;
  std::string places;
  for (const auto& [node, pages] : numa_.Locate(memory->bytes())) {
    places += base::Str(places.empty() ? "" : ", ", pages, " on ", node);
  }
  if (places.empty()) places = "not known";
  base::LogInfo("staging_placed",
                {{"memory", NameOf(touched.key)}, {"numa_node", *touched.numa_node}, {"pages_looked_at", places}});
}

void StagingPool::Free(const std::string& owner, base::Rank rank, std::size_t from_buffer) {
  {
    const std::scoped_lock lock(mutex_);
    for (auto found = memories_.lower_bound({owner, rank, from_buffer}); found != memories_.end();) {
      if (found->first.owner != owner || found->first.rank != rank) break;
      freed_.push_back(std::move(found->second));
      found = memories_.erase(found);
    }
  }
  changed_.notify_all();
}

std::shared_ptr<StagingMemory> StagingPool::Find(const StagingKey& key) const {
  const std::scoped_lock lock(mutex_);
  const auto found = memories_.find(key);
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
    const Untouched next = std::move(untouched_.front());
    untouched_.pop_front();
    touching_ = true;
    lock.unlock();
    // Clearing pages across sockets is slower; and where memory may not be bound, it lies where it is touched first.
    std::optional<base::StayOnCores> stay;
    if (next.numa_node) stay.emplace(numa_.Cores(*next.numa_node));
    base::Status touched;
    lock.lock();
    for (std::size_t at = 0; !stopping_; at += kTouchBytes) {
      lock.unlock();
      bool done = true;
      if (const auto memory = next.memory.lock(); memory && at < memory->bytes().size()) {
        const auto piece = memory->bytes().subspan(at, std::min(kTouchBytes, memory->bytes().size() - at));
        // A failure is no loss but of speed: the trainer's first copy touches the pages then.
        touched = base::TouchPages(piece, threads_);
        if (!touched) base::LogWarning("staging_not_touched", {{"why", touched.error().Text()}});
        done = !touched;
      }
      if (done && next.numa_node) LogPlace(next);
      lock.lock();
      if (done) break;
    }
    stay.reset();
    const auto still = memories_.find(next.key);
    if (!stopping_ && next.touched && still != memories_.end() && still->second == next.memory.lock()) {
      if (!touched) {
        freed_.push_back(std::move(still->second));
        memories_.erase(still);
      }
      lock.unlock();
      next.touched(touched);
      lock.lock();
    }
    touching_ = false;
    changed_.notify_all();
  }
}

}  // namespace belay::checkpoint
