#include "runtime/state/restore.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "checkpoint/format/boxes.h"
#include "runtime/base/units.h"
#include "runtime/state/thrown.h"

namespace belay::runtime {
namespace {

using base::Code;
using base::Fail;
using checkpoint::Restorer;

constexpr std::size_t kNamedMax = 5;
// Every piece in the bounce buffer begins at a multiple of this: enough for the widest type.
constexpr std::uint64_t kPieceAlignment = 64;

// Everything that differs, so that one run tells all.
class Differences {
 public:
  void Add(std::string what) {
    if (++count_ <= kNamedMax) text_ += (text_.empty() ? "" : "; ") + std::move(what);
  }
  base::Status Verdict() const {
    if (count_ == 0) return {};
    const std::string rest = count_ > kNamedMax ? base::Str("; and ", count_ - kNamedMax, " more") : "";
    return Fail(Code::kLayoutMismatch, "the checkpoint does not fit this program: ", text_, rest);
  }

 private:
  std::string text_;
  std::size_t count_ = 0;
};

bool IsPerRankName(const std::string& name) {
  const auto dot = name.rfind(".rank-");
  return dot != std::string::npos && name.size() == dot + 11 &&
         std::all_of(name.begin() + static_cast<std::ptrdiff_t>(dot) + 6, name.end(),
                     [](char c) { return c >= '0' && c <= '9'; });
}

// Which of our tensors to load; adds what does not fit.
std::vector<StateTensor> Match(std::vector<StateTensor> ours, const Restorer& restorer, base::Rank rank,
                               bool same_world, Differences& differences) {
  const auto& saved = restorer.tensors();
  std::set<std::string> known;
  std::vector<StateTensor> wanted;
  for (StateTensor& tensor : ours) {
    const std::string name = tensor.FullName();
    known.insert(name);
    const auto found = saved.find(name);
    if (found == saved.end()) {
      if (tensor.holders == Holders::kPerRank && !same_world) continue;
      differences.Add(name + " is not in it");
      continue;
    }
    const auto dtype = *ToDType(tensor.tensor.scalar_type());
    const auto shape = tensor.tensor.sizes().vec();
    if (found->second.dtype != dtype || found->second.global_shape != shape) {
      differences.Add(base::Str(name, " is ", DescribeTensor(found->second.dtype, found->second.global_shape),
                                " there and ", DescribeTensor(dtype, shape), " here"));
      continue;
    }
    wanted.push_back(std::move(tensor));
  }
  // Other ranks' own tensors are their business; in another world this rank's too may have come from nowhere.
  const std::string own_suffix = "." + PerRankName(rank);
  for (const auto& [name, tensor] : saved) {
    if (known.contains(name)) continue;
    if (IsPerRankName(name) && !(same_world && name.ends_with(own_suffix))) continue;
    differences.Add(name + " is in it but not in the program");
  }
  return wanted;
}

checkpoint::Target TargetOf(const StateTensor& tensor, checkpoint::Box box, void* memory) {
  return {.name = tensor.FullName(),
          .dtype = *ToDType(tensor.tensor.scalar_type()),
          .global_shape = tensor.tensor.sizes().vec(),
          .box = std::move(box),
          .data = static_cast<std::byte*>(memory)};
}

// Loads tensors that cannot be read into in place.
class BounceLoader {
 public:
  BounceLoader(Restorer& restorer, const RestoreOptions& options) : restorer_(restorer), options_(options) {}

  base::Result<checkpoint::RestoreStatistics> Load(const std::vector<StateTensor>& tensors) {
    std::uint64_t bytes = 0;
    bool pinned = false;
    for (const StateTensor& tensor : tensors) {
      bytes += base::AlignUp(tensor.tensor.nbytes(), kPieceAlignment);
      pinned = pinned || tensor.tensor.is_cuda();
    }
    if (bytes == 0) return total_;
    buffer_ = torch::empty({static_cast<std::int64_t>(std::min(bytes, options_.bounce_bytes))},
                           torch::TensorOptions(torch::kByte).pinned_memory(pinned));
    for (const StateTensor& tensor : tensors) {
      BELAY_TRY(Add(tensor, checkpoint::WholeBox(tensor.tensor.sizes().vec())));
    }
    BELAY_TRY(Flush());
    return total_;
  }

 private:
  struct Waiting {
    at::Tensor destination;
    at::Tensor piece;  // in the buffer
  };

  // Cuts what does not fit into the buffer along its first dimension that can be cut: usually into runs of rows.
  base::Status Add(const StateTensor& tensor, checkpoint::Box box) {
    const std::uint64_t bytes = checkpoint::ElementCount(box) * tensor.tensor.element_size();
    const auto buffer_bytes = static_cast<std::uint64_t>(buffer_.numel());
    if (bytes > buffer_bytes) {
      const auto cut = std::find_if(box.lengths.begin(), box.lengths.end(), [](auto length) { return length > 1; });
      if (cut == box.lengths.end()) {
        return Fail(Code::kInvalidArgument, "a bounce buffer of ", buffer_bytes, " bytes holds no element of ",
                    tensor.FullName());
      }
      const auto dimension = static_cast<std::size_t>(cut - box.lengths.begin());
      const std::int64_t length = *cut;
      const auto fitting = static_cast<std::int64_t>(buffer_bytes / (bytes / static_cast<std::uint64_t>(length)));
      const std::int64_t step = std::max<std::int64_t>(1, fitting);
      for (std::int64_t begin = 0; begin < length; begin += step) {
        checkpoint::Box piece = box;
        piece.offsets[dimension] += begin;
        piece.lengths[dimension] = std::min(step, length - begin);
        BELAY_TRY(Add(tensor, std::move(piece)));
      }
      return {};
    }
    if (used_ + bytes > buffer_bytes) BELAY_TRY(Flush());
    auto* memory = static_cast<std::byte*>(buffer_.mutable_data_ptr()) + used_;
    at::Tensor destination = tensor.tensor;
    for (std::size_t d = 0; d < box.lengths.size(); ++d) {
      destination = destination.narrow(static_cast<std::int64_t>(d), box.offsets[d], box.lengths[d]);
    }
    waiting_.push_back({destination, torch::from_blob(memory, box.lengths, destination.scalar_type())});
    targets_.push_back(TargetOf(tensor, std::move(box), memory));
    used_ = base::AlignUp(used_ + bytes, kPieceAlignment);
    return {};
  }

  base::Status Flush() {
    BELAY_ASSIGN(const auto loaded, restorer_.Load(targets_, options_.threads));
    // Blocking copies: the next pieces take their place.
    for (Waiting& one : waiting_) one.destination.copy_(one.piece);
    total_.bytes_read += loaded.bytes_read;
    total_.bytes_wanted += loaded.bytes_wanted;
    total_.seconds += loaded.seconds;
    targets_.clear();
    waiting_.clear();
    used_ = 0;
    return {};
  }

  Restorer& restorer_;
  const RestoreOptions& options_;
  at::Tensor buffer_;
  std::uint64_t used_ = 0;
  std::vector<checkpoint::Target> targets_;
  std::vector<Waiting> waiting_;  // one a target
  checkpoint::RestoreStatistics total_;
};

}  // namespace

base::Result<checkpoint::RestoreStatistics> RestoreState(StateSet& state, Restorer& restorer,
                                                         const RestoreOptions& options) try {
  torch::NoGradGuard no_grad;
  const std::int32_t saved_world = restorer.manifest().world_size;
  const bool same_world = saved_world == options.world_size;
  BELAY_ASSIGN(const auto main, restorer.LoadRecords(base::Rank(0)));
  checkpoint::Records own = main;
  if (const std::int32_t source = state.rank().value() % std::max(1, saved_world); source != 0) {
    BELAY_ASSIGN(own, restorer.LoadRecords(base::Rank(source)));
  }
  BELAY_TRY(state.LoadOptimizers(main));
  BELAY_ASSIGN(auto ours, state.Describe());
  Differences differences;
  auto wanted = Match(std::move(ours), restorer, state.rank(), same_world, differences);
  if (same_world) {
    for (const std::string& name : state.SurplusRecords(own)) {
      differences.Add("the record " + name + " is in it but not in the program");
    }
  }
  BELAY_TRY(differences.Verdict());

  std::vector<checkpoint::Target> in_place;
  std::vector<StateTensor> through_bounce;
  for (StateTensor& tensor : wanted) {
    if (tensor.tensor.is_cpu() && tensor.tensor.is_contiguous()) {
      tensor.tensor.unsafeGetTensorImpl()->bump_version();
      in_place.push_back(
          TargetOf(tensor, checkpoint::WholeBox(tensor.tensor.sizes().vec()), tensor.tensor.mutable_data_ptr()));
    } else {
      through_bounce.push_back(std::move(tensor));
    }
  }
  BELAY_ASSIGN(auto total, restorer.Load(in_place, options.threads));
  BELAY_ASSIGN(const auto bounced, BounceLoader(restorer, options).Load(through_bounce));
  total.bytes_read += bounced.bytes_read;
  total.bytes_wanted += bounced.bytes_wanted;
  total.seconds += bounced.seconds;
  BELAY_TRY(state.LoadOthers(own, main, {.step = restorer.manifest().step, .same_world = same_world}));
  return total;
} catch (...) {
  return tl::unexpected(ThrownError("loading the state"));
}

}  // namespace belay::runtime
