// The Copier for tensors in host memory.
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <vector>

#include "checkpoint/client/snapshotter.h"
#include "runtime/base/check.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {
namespace {

// What a thread takes at once: small tensors together, so that the lock costs nothing.
constexpr std::uint64_t kBatchBytes = base::kMiB;

class MemoryCopier final : public Copier {
 public:
  base::Status Register(std::span<std::byte> /*staging*/) override { return {}; }
  void Unregister(std::span<std::byte> /*staging*/) override {}

  base::Status Begin(std::span<const Copy> copies) override {
    const std::lock_guard lock(mutex_);
    BELAY_CHECK(landed_ == copies_.size(), "a copy begins before the last has ended");
    copies_.assign(copies.begin(), copies.end());
    done_.assign(copies.size(), false);
    next_ = 0;
    landed_ = 0;
    return {};
  }

  // The waiting threads do the work: each takes the next few copies until those it waits for are taken, then waits for
  // the others' to land.
  base::Status Await(std::size_t index) override {
    std::unique_lock lock(mutex_);
    BELAY_CHECK(index < copies_.size(), "waits for copy ", index, " of ", copies_.size());
    while (next_ <= index) {
      const std::size_t first = next_;
      for (std::uint64_t bytes = 0; next_ <= index && bytes < kBatchBytes; ++next_) bytes += copies_[next_].bytes;
      const std::size_t end = next_;
      lock.unlock();
      // copies_ does not change before all have landed.
      for (std::size_t i = first; i < end; ++i)
        std::memcpy(copies_[i].destination, copies_[i].source, copies_[i].bytes);
      lock.lock();
      for (std::size_t i = first; i < end; ++i) done_[i] = true;
      while (landed_ < done_.size() && done_[landed_]) ++landed_;
      progress_.notify_all();
    }
    progress_.wait(lock, [&] { return landed_ > index; });
    return {};
  }

  bool AwaitIsThreadSafe() const override { return true; }

 private:
  std::mutex mutex_;
  std::condition_variable progress_;
  std::vector<Copy> copies_;
  std::vector<bool> done_;
  std::size_t next_ = 0;    // the first copy that nobody has taken
  std::size_t landed_ = 0;  // all before this one are done
};

}  // namespace

std::unique_ptr<Copier> MakeMemoryCopier() { return std::make_unique<MemoryCopier>(); }

}  // namespace belay::checkpoint
