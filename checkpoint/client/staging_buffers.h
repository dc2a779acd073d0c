// The staging memory of one rank as it is mapped here: the buffer that came with Attach, and those that came with
// BeginSnapshot since. One thread, but for the touching of pages.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <thread>
#include <vector>

#include "checkpoint/client/snapshotter.h"
#include "checkpoint/format/shard_file.h"
#include "runtime/base/result.h"
#include "runtime/base/shared_memory.h"
#include "runtime/base/unique_fd.h"

namespace belay::checkpoint {

class StagingBuffers {
 public:
  // `files`: of a save.
  StagingBuffers(Copier& copier, std::size_t files) : copier_(copier), files_(files) {}
  ~StagingBuffers() { Clear(); }
  StagingBuffers(const StagingBuffers&) = delete;
  StagingBuffers& operator=(const StagingBuffers&) = delete;

  // The next save goes to this buffer. `fd`, `bytes`: its memory, which is mapped if it is not yet.
  base::Status Use(std::size_t number, const base::UniqueFd& fd, std::uint64_t bytes);
  void Clear();
  void AwaitTouched();

  std::span<std::byte> bytes() const { return Current().mapping.bytes(); }
  // A file's image, as a save copied it.
  struct Image {
    StepAndGeneration named;   // the save whose name is in its header
    std::uint64_t serial = 0;  // of its content: two attempts at a step may differ
  };
  // Per file, what the buffer holds; none while there is no whole one.
  std::vector<std::optional<Image>>& images() { return buffers_.at(current_).images; }
  std::uint64_t BytesHeld() const;

 private:
  struct Buffer {
    base::Mapping mapping;
    std::vector<std::optional<Image>> images;
    std::jthread toucher;  // of mapping
  };
  const Buffer& Current() const { return buffers_.at(current_); }

  Copier& copier_;
  const std::size_t files_;
  std::map<std::size_t, Buffer> buffers_;
  std::size_t current_ = 0;
};

}  // namespace belay::checkpoint
