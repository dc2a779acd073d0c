// Between torch's tensors and the checkpoint's: dtypes, names, memory.
#pragma once

#include <optional>
#include <string>

#include <torch/torch.h>

#include "checkpoint/format/layout.h"
#include "runtime/base/ids.h"

namespace belay::runtime {

// None for quantised, sparse and other types that checkpoints do not carry.
std::optional<checkpoint::DType> ToDType(at::ScalarType type);

// "[8, 16] F32", for messages.
std::string DescribeTensor(checkpoint::DType dtype, const std::vector<std::int64_t>& shape);

// Who holds a tensor, and so who describes it in its layout and who loads it back.
enum class Holders : std::uint8_t {
  kAlike,    // all ranks hold the same bytes; dealt out, loaded by all
  kMain,     // rank 0's is the truth (buffers); written by rank 0, loaded by all
  kPerRank,  // each rank has its own; the name carries the rank
};

// One tensor of the state as it stands. Keeps the storage alive, so that a background copy never reads freed memory
// even if the program replaces the tensor's data meanwhile.
struct StateTensor {
  std::string part;
  std::string name;  // inside the part
  Holders holders = Holders::kAlike;
  // Bytes may change before the next update, or are not contiguous: copied to a side buffer inside step_done.
  bool eager = false;
  bool frozen = false;  // a parameter that is not trained: see checkpoint::PartLayout
  at::Tensor tensor;

  std::string FullName() const { return part + "." + name; }
};

// "rank-00003": the name of a per-rank tensor inside its part.
std::string PerRankName(base::Rank rank);

}  // namespace belay::runtime
