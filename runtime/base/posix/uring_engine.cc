#include <liburing.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/base/clock.h"
#include "runtime/base/posix/bulk_engine.h"

namespace belay::base {

namespace {

class UringEngine final : public BulkEngine {
 public:
  static std::unique_ptr<BulkEngine> Make(const BulkShape& shape) {
    std::unique_ptr<UringEngine> engine(new UringEngine(shape));
    if (::io_uring_queue_init(shape.queue_depth, &engine->ring_, 0) != 0) return nullptr;
    engine->open_ = true;
    return engine;
  }
  ~UringEngine() override {
    if (open_) ::io_uring_queue_exit(&ring_);
  }

  TransferResult Run(const Transfer& transfer) override {
    if (!open_) return RunPlain(transfer);
    kind_ = transfer.kind;
    fd_ = transfer.fd;
    base_ = transfer.offset;
    error_ = 0;
    end_ = transfer.size;
    std::size_t next = 0;
    while (in_flight_ > 0 || (error_ == 0 && next < transfer.size)) {
      while (error_ == 0 && next < transfer.size && in_flight_ < slots_.size()) {
        const std::size_t size = std::min(block_bytes_, transfer.size - next);
        Submit(FreeSlot(), {next, transfer.data + next, size});
        next += size;
      }
      const int got = ::io_uring_submit_and_wait(&ring_, 1);
      // EAGAIN and EBUSY: the kernel is short of something now and completions will free it.
      if (got < 0 && got != -EINTR && got != -EAGAIN && got != -EBUSY) return GiveUp(-got);
      Reap();
    }
    return {error_, error_ == 0 ? end_ : 0};
  }

 private:
  struct Block {
    std::size_t start = 0;  // in the transfer
    std::byte* data = nullptr;
    std::size_t size = 0;  // 0: slot is free
  };

  explicit UringEngine(const BulkShape& shape) : block_bytes_(shape.block_bytes), slots_(shape.queue_depth) {}

  // The kernel takes no more requests (it has no memory, say): the transfer fails with its reason. What it took already
  // still uses the memory and is waited for; what it did not lies in the ring, which is made anew.
  TransferResult GiveUp(int error) {
    error_ = error;  // Reap submits nothing again
    while (in_flight_ > ::io_uring_sq_ready(&ring_)) {
      Reap();
      SystemClock().SleepFor(std::chrono::milliseconds(1));
    }
    in_flight_ = 0;
    std::ranges::fill(slots_, Block{});
    ::io_uring_queue_exit(&ring_);
    open_ = ::io_uring_queue_init(static_cast<unsigned>(slots_.size()), &ring_, 0) == 0;
    return {error, 0};
  }

  std::size_t FreeSlot() const {
    const auto found = std::ranges::find(slots_, 0U, &Block::size);
    return static_cast<std::size_t>(found - slots_.begin());
  }

  void Submit(std::size_t slot, const Block& block) {
    io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
    BELAY_CHECK(entry != nullptr, "submission queue full with ", in_flight_, " in flight");
    const auto size = static_cast<unsigned>(block.size);
    if (kind_ == Transfer::Kind::kWrite) {
      ::io_uring_prep_write(entry, fd_, block.data, size, base_ + block.start);
    } else {
      ::io_uring_prep_read(entry, fd_, block.data, size, base_ + block.start);
    }
    ::io_uring_sqe_set_data64(entry, slot);
    slots_[slot] = block;
    ++in_flight_;
  }

  void Reap() {
    std::vector<std::pair<std::size_t, Block>> again;
    io_uring_cqe* entry = nullptr;
    while (::io_uring_peek_cqe(&ring_, &entry) == 0) {
      const auto slot = static_cast<std::size_t>(::io_uring_cqe_get_data64(entry));
      const int moved = entry->res;
      ::io_uring_cqe_seen(&ring_, entry);
      --in_flight_;
      Block block = std::exchange(slots_[slot], {});
      if (Finish(block, moved)) continue;
      again.emplace_back(slot, block);
    }
    for (const auto& [slot, block] : again) {
      if (error_ == 0) Submit(slot, block);
    }
  }

  // Takes one completion in; false: `block` holds what is still to be moved.
  bool Finish(Block& block, int moved) {
    if (moved == -EINTR || moved == -EAGAIN) return false;
    if (moved < 0) {
      if (error_ == 0) error_ = -moved;
      return true;
    }
    if (moved == 0) {
      if (kind_ == Transfer::Kind::kWrite) {
        if (error_ == 0) error_ = EIO;
      } else {
        end_ = std::min(end_, block.start);
      }
      return true;
    }
    block.start += static_cast<std::size_t>(moved);
    block.data += moved;
    block.size -= static_cast<std::size_t>(moved);
    if (block.size == 0) return true;
    // What direct I/O cannot go on with: a short read there is the file's end, a short write is a failure (EINVAL makes
    // the file write this piece again the slow way).
    if (moved % static_cast<int>(kDirectAlignment) != 0) {
      if (kind_ == Transfer::Kind::kRead) {
        end_ = std::min(end_, block.start);
      } else if (error_ == 0) {
        error_ = EINVAL;
      }
      return true;
    }
    return false;
  }

  const std::size_t block_bytes_;
  io_uring ring_{};
  bool open_ = false;
  Transfer::Kind kind_ = Transfer::Kind::kRead;
  int fd_ = -1;
  std::uint64_t base_ = 0;
  int error_ = 0;
  std::size_t end_ = 0;  // where the file ended, counted in the transfer
  unsigned in_flight_ = 0;
  std::vector<Block> slots_;  // as many as may be in flight
};

}  // namespace

std::unique_ptr<BulkEngine> MakeUringEngine(const BulkShape& shape) { return UringEngine::Make(shape); }

}  // namespace belay::base
