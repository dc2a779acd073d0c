// Seam: what the staging copier asks of a GPU. The CUDA runtime behind it (cuda_engine.cc), a fake in tests.
//
// Two queues: the training stream, which belongs to the program, and a side stream of the lowest priority. Within a
// queue work runs in order; between queues only as the events here say. Errors: kDevice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "runtime/base/result.h"
#include "runtime/cuda/pack_limits.h"

namespace belay::runtime {

struct PackItem {
  const std::byte* source = nullptr;
  std::uint32_t offset = 0;  // in the packed bytes
  std::uint32_t bytes = 0;
};

class CopyEngine {
 public:
  virtual ~CopyEngine() = default;
  // Makes host memory fit for asynchronous copies.
  virtual base::Status RegisterHost(std::span<std::byte> memory) = 0;
  virtual void UnregisterHost(std::span<std::byte> memory) = 0;

  // Training thread: the training stream's work so far is the state to be copied.
  virtual base::Status MarkTraining() = 0;
  // The side stream waits for the mark.
  virtual base::Status SideAwaitsMark() = 0;
  // Side stream: device or host bytes to (registered) host memory.
  virtual base::Status Copy(std::byte* destination, const std::byte* source, std::uint64_t bytes) = 0;
  // Side stream: gathers small pieces into scratch memory of the device, and copies `bytes` of it out in one go.
  // At most kPackItemsMax items of kPackBytesMax together.
  virtual base::Status Pack(std::byte* destination, std::span<const PackItem> items, std::uint64_t bytes) = 0;
  // Side stream: event `index` fires when its work so far is done. Events are made as needed and used again.
  virtual base::Status RecordSide(std::size_t index) = 0;
  // The calling thread waits for event `index`. Any thread.
  virtual base::Status AwaitOnHost(std::size_t index) = 0;
  // Training thread: later work of the training stream waits for event `index`; the thread does not.
  virtual base::Status TrainingAwaits(std::size_t index) = 0;
  // Training thread: for how many seconds the training stream stood still at the last TrainingAwaits; none before it
  // has passed there.
  virtual std::optional<double> TrainingWaited() = 0;
};

// On the device with this index. kUnsupported in a build without CUDA, kDevice if the device cannot be used.
base::Result<std::unique_ptr<CopyEngine>> MakeCudaCopyEngine(int device);

}  // namespace belay::runtime
