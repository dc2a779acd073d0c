#include "runtime/state/restore.h"

#include <algorithm>
#include <set>
#include <vector>

#include "checkpoint/format/boxes.h"
#include "runtime/base/units.h"

namespace belay::runtime {
namespace {

using base::Code;
using base::Fail;
using checkpoint::Restorer;

constexpr std::size_t kNamedMax = 5;
constexpr std::uint64_t kBounceBytes = 64 * base::kMiB;

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

// Which of our tensors to load; says what does not fit.
base::Result<std::vector<StateTensor>> Match(std::vector<StateTensor> ours, const Restorer& restorer, bool same_world) {
  const auto& saved = restorer.tensors();
  Differences differences;
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
  for (const auto& [name, tensor] : saved) {
    if (!known.contains(name) && !IsPerRankName(name)) differences.Add(name + " is in it but not in the program");
  }
  BELAY_TRY(differences.Verdict());
  return wanted;
}

checkpoint::Target TargetOf(const StateTensor& tensor, void* memory) {
  const auto shape = tensor.tensor.sizes().vec();
  return {.name = tensor.FullName(),
          .dtype = *ToDType(tensor.tensor.scalar_type()),
          .global_shape = shape,
          .box = checkpoint::WholeBox(shape),
          .data = static_cast<std::byte*>(memory)};
}

// Loads tensors that cannot be read into in place, a batch at a time.
base::Result<checkpoint::RestoreStatistics> LoadThroughBounce(const std::vector<StateTensor>& tensors,
                                                              Restorer& restorer, int threads) {
  checkpoint::RestoreStatistics total;
  for (std::size_t first = 0; first < tensors.size();) {
    std::vector<checkpoint::Target> targets;
    std::vector<at::Tensor> bounces;
    std::size_t end = first;
    for (std::uint64_t bytes = 0;
         end < tensors.size() && (end == first || bytes + tensors[end].tensor.nbytes() <= kBounceBytes); ++end) {
      const at::Tensor& tensor = tensors[end].tensor;
      bytes += tensor.nbytes();
      bounces.push_back(
          torch::empty(tensor.sizes(), torch::TensorOptions(tensor.scalar_type()).pinned_memory(tensor.is_cuda())));
      targets.push_back(TargetOf(tensors[end], bounces.back().mutable_data_ptr()));
    }
    BELAY_ASSIGN(const auto loaded, restorer.Load(targets, threads));
    // Blocking copies: the bounce buffers are gone after this round.
    for (std::size_t i = first; i < end; ++i) at::Tensor(tensors[i].tensor).copy_(bounces[i - first]);
    total.bytes_read += loaded.bytes_read;
    total.bytes_wanted += loaded.bytes_wanted;
    total.seconds += loaded.seconds;
    first = end;
  }
  return total;
}

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
  BELAY_ASSIGN(auto wanted, Match(std::move(ours), restorer, same_world));

  std::vector<checkpoint::Target> in_place;
  std::vector<StateTensor> through_bounce;
  for (StateTensor& tensor : wanted) {
    if (tensor.tensor.is_cpu() && tensor.tensor.is_contiguous()) {
      tensor.tensor.unsafeGetTensorImpl()->bump_version();
      in_place.push_back(TargetOf(tensor, tensor.tensor.mutable_data_ptr()));
    } else {
      through_bounce.push_back(std::move(tensor));
    }
  }
  BELAY_ASSIGN(auto total, restorer.Load(in_place, options.threads));
  BELAY_ASSIGN(const auto bounced, LoadThroughBounce(through_bounce, restorer, options.threads));
  total.bytes_read += bounced.bytes_read;
  total.bytes_wanted += bounced.bytes_wanted;
  total.seconds += bounced.seconds;
  BELAY_TRY(state.LoadOthers(own, main, {.step = restorer.manifest().step, .same_world = same_world}));
  return total;
} catch (const c10::Error& error) {
  return Fail(Code::kDevice, "loading the state failed: ", error.what_without_backtrace());
}

}  // namespace belay::runtime
