// One rank's view of the state for saving: its layout, where the bytes lie, and whether anybody changed them meanwhile.
//
// Made when the layout is; used by every save until a name, shape or address changes. The background copy reads
// tensors' own memory; only buffers, small user tensors and non-contiguous tensors pass through side buffers, filled
// inside step_done.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/client/snapshotter.h"
#include "checkpoint/format/layout.h"
#include "checkpoint/format/shard_file.h"
#include "runtime/state/tensors.h"

namespace belay::runtime {

class Capture {
 public:
  // Of all tensors (StateSet::Describe) those that `rank` describes. kUnsupported: non-contiguous tensors of more than
  // kSideBytesMax together, since copying them aside would double them in memory, and the program can help it. Buffers
  // have no limit: there is no other way to save them. Throws what torch throws, c10::OutOfMemoryError above all.
  static base::Result<std::unique_ptr<Capture>> Make(std::vector<StateTensor> tensors, base::Rank rank);

  const checkpoint::RankLayout& layout() const { return layout_; }
  // Same names, types, shapes and addresses: the sources handed out are still right.
  bool Matches(const std::vector<StateTensor>& tensors) const;
  bool HasCudaTensors() const;
  // What the side buffers take, and whose is the largest.
  struct Side {
    std::uint64_t bytes = 0;
    std::string largest;
    std::uint64_t largest_bytes = 0;
  };
  const Side& side() const { return side_; }

  // For each entry of each plan. The memory lives as long as this object.
  std::vector<std::vector<checkpoint::Source>> Sources(const std::vector<checkpoint::ShardPlan>& plans) const;

  // Training thread, inside step_done: fills the side buffers (on a GPU: on the current stream, so before any event
  // recorded after).
  void CopyEager();
  // Training thread, after the update: remembers how the tensors are. The answer may be asked on any thread, while this
  // object lives: false once a tensor was written (a replaced one is no harm: the old memory is kept and copied).
  // Version counters see torch's own writes. Writes past them (through .data(), which has a counter of its own, a raw
  // pointer or a kernel of the program) show in a sample of eight words of each CPU tensor, if they hit one of them,
  // and not at all in CUDA tensors: there only the order of the stream keeps the update behind the copy.
  std::function<bool()> Witness() const;
  // The same for the frozen tensors alone, from save to save.
  std::function<bool()> FrozenWitness() const;

  static constexpr std::uint64_t kSideBytesMax = 256ULL * 1024 * 1024;

 private:
  std::function<bool()> WitnessOf(bool frozen_only) const;
  struct Held {
    StateTensor state;
    const void* address = nullptr;  // of the tensor's own memory
    at::Tensor side;                // defined for eager ones
    const std::byte* Data() const;
  };

  std::vector<Held> held_;
  checkpoint::RankLayout layout_;
  Side side_;
};

}  // namespace belay::runtime
