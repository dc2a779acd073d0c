#include "checkpoint/client/staging_buffers.h"

#include <algorithm>
#include <stop_token>
#include <system_error>
#include <utility>

#include "runtime/base/units.h"

namespace belay::checkpoint {

namespace {

constexpr std::size_t kTouchBytes = 64 * base::kMiB;  // between two looks whether the memory is still wanted

// Beside the program's start-up and its first steps, so that the first save finds the pages in place. The daemon makes
// them at the same time; here they are entered into this process's page table.
std::jthread Touch(std::span<std::byte> bytes) try {
  return std::jthread([bytes](const std::stop_token& stop) {
    for (std::size_t at = 0; at < bytes.size() && !stop.stop_requested(); at += kTouchBytes) {
      const auto piece = bytes.subspan(at, std::min<std::size_t>(kTouchBytes, bytes.size() - at));
      if (!base::TouchPages(piece, 1)) return;  // the first copy finds out and says so
    }
  });
} catch (const std::system_error&) {
  return {};  // no thread to be had: the first save is slower, that is all
}

}  // namespace

base::Status StagingBuffers::Use(std::size_t number, const base::UniqueFd& fd, std::uint64_t bytes) {
  if (!buffers_.contains(number)) {
    BELAY_ASSIGN(base::Mapping mapping, base::MapSharedMemory(fd.get(), bytes, base::MapAccess::kReadWrite));
    if (auto registered = copier_.Register(mapping.bytes()); !registered) {
      return base::Wrap(std::move(registered).error(), "cannot use the staging memory");
    }
    Buffer& buffer = buffers_[number];
    buffer.mapping = std::move(mapping);
    buffer.images.assign(files_, std::nullopt);
    buffer.toucher = Touch(buffer.mapping.bytes());
  }
  current_ = number;
  return {};
}

void StagingBuffers::Clear() {
  for (auto& [number, buffer] : buffers_) {
    buffer.toucher = {};  // stops it
    copier_.Unregister(buffer.mapping.bytes());
  }
  buffers_.clear();
  current_ = 0;
}

void StagingBuffers::AwaitTouched() {
  for (auto& [number, buffer] : buffers_) {
    if (buffer.toucher.joinable()) buffer.toucher.join();
  }
}

std::uint64_t StagingBuffers::BytesHeld() const {
  std::uint64_t bytes = 0;
  for (const auto& [number, buffer] : buffers_) bytes += buffer.mapping.bytes().size();
  return bytes;
}

}  // namespace belay::checkpoint
