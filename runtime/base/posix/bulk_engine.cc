#include "runtime/base/posix/bulk_engine.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>
#include <thread>
#include <vector>

namespace belay::base {

std::string_view BulkMethodName(BulkMethod method) {
  switch (method) {
    case BulkMethod::kIoUring:
      return "io_uring";
    case BulkMethod::kDirect:
      return "direct";
    case BulkMethod::kBuffered:
      return "buffered";
  }
  return "?";
}

TransferResult RunPlain(const Transfer& transfer) {
  TransferResult result;
  while (result.bytes < transfer.size) {
    std::byte* data = transfer.data + result.bytes;
    const std::size_t size = std::min<std::size_t>(transfer.size - result.bytes, 1U << 30);
    const auto offset = static_cast<off_t>(transfer.offset + result.bytes);
    const ssize_t moved = transfer.kind == Transfer::Kind::kWrite ? ::pwrite(transfer.fd, data, size, offset)
                                                                  : ::pread(transfer.fd, data, size, offset);
    if (moved < 0 && errno == EINTR) continue;
    if (moved < 0) {
      result.error = errno;
      return result;
    }
    if (moved == 0) {
      // POSIX leaves a write of nothing unexplained; going round again could go on for ever.
      if (transfer.kind == Transfer::Kind::kWrite) result.error = EIO;
      return result;
    }
    result.bytes += static_cast<std::size_t>(moved);
  }
  return result;
}

namespace {

Transfer Block(const Transfer& whole, std::size_t index, std::size_t block_bytes) {
  Transfer block = whole;
  const std::size_t start = index * block_bytes;
  block.offset += start;
  block.data += start;
  block.size = std::min(block_bytes, whole.size - start);
  return block;
}

class ThreadEngine final : public BulkEngine {
 public:
  explicit ThreadEngine(const BulkShape& shape)
      : block_bytes_(shape.block_bytes), threads_(std::min<std::size_t>(kThreadsMax, shape.queue_depth)) {}

  TransferResult Run(const Transfer& transfer) override {
    const std::size_t count = (transfer.size + block_bytes_ - 1) / block_bytes_;
    if (count <= 1) return RunPlain(transfer);
    std::atomic<std::size_t> next{0};
    std::atomic<bool> failed{false};
    std::vector<TransferResult> results(count);
    const auto work = [&] {
      for (std::size_t i = next++; i < count && !failed; i = next++) {
        results[i] = RunPlain(Block(transfer, i, block_bytes_));
        if (results[i].error != 0) failed = true;
      }
    };
    {
      std::vector<std::jthread> threads;
      try {
        for (std::size_t i = 1; i < std::min(threads_, count); ++i) threads.emplace_back(work);
      } catch (const std::system_error&) {  // no more threads to be had: with fewer it only takes longer
      }
      work();
    }
    TransferResult all;
    bool whole = true;
    for (std::size_t i = 0; i < count; ++i) {
      if (all.error == 0) all.error = results[i].error;
      if (whole) all.bytes += results[i].bytes;
      whole = whole && results[i].bytes == Block(transfer, i, block_bytes_).size;
    }
    return all;
  }

 private:
  static constexpr std::size_t kThreadsMax = 4;  // as many as keep one NVMe device busy with 4 MiB blocks
  const std::size_t block_bytes_, threads_;
};

class BufferedEngine final : public BulkEngine {
 public:
  explicit BufferedEngine(const BulkShape& shape) : block_bytes_(shape.block_bytes), queue_depth_(shape.queue_depth) {}

  TransferResult Run(const Transfer& transfer) override {
    TransferResult all;
    for (std::size_t i = 0; i * block_bytes_ < transfer.size; ++i) {
      const Transfer block = Block(transfer, i, block_bytes_);
      const TransferResult moved = RunPlain(block);
      all.bytes += moved.bytes;
      all.error = moved.error;
      if (moved.error != 0 || moved.bytes < block.size) return all;
      if (transfer.kind == Transfer::Kind::kWrite) WriteBehind(transfer, i);
    }
    return all;
  }

 private:
  // Starts this block's way to the disk and waits for the one a queue's depth earlier, so that dirty memory stays
  // bounded. Errors are left for Sync, which sees them all.
  void WriteBehind(const Transfer& transfer, std::size_t index) const {
    const Transfer block = Block(transfer, index, block_bytes_);
    ::sync_file_range(block.fd, static_cast<off_t>(block.offset), static_cast<off_t>(block.size),
                      SYNC_FILE_RANGE_WRITE);
    if (index < queue_depth_) return;
    const Transfer old = Block(transfer, index - queue_depth_, block_bytes_);
    ::sync_file_range(old.fd, static_cast<off_t>(old.offset), static_cast<off_t>(old.size),
                      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  }

  const std::size_t block_bytes_, queue_depth_;
};

}  // namespace

std::unique_ptr<BulkEngine> MakeThreadEngine(const BulkShape& shape) { return std::make_unique<ThreadEngine>(shape); }
std::unique_ptr<BulkEngine> MakeBufferedEngine(const BulkShape& shape) {
  return std::make_unique<BufferedEngine>(shape);
}

}  // namespace belay::base
