#include "runtime/state/capture.h"

#include <cstring>
#include <map>

#include "checkpoint/format/boxes.h"
#include "runtime/base/check.h"
#include "runtime/base/rng.h"
#include "runtime/base/units.h"

namespace belay::runtime {
namespace {

bool Described(const StateTensor& tensor, base::Rank rank) {
  return tensor.holders != Holders::kMain || rank.value() == 0;
}

std::uint32_t VersionOf(const at::Tensor& tensor) { return tensor.is_inference() ? 0 : tensor._version(); }

// Eight words spread over the tensor, mixed. Costs a few cache lines a tensor.
std::uint64_t SampleOf(const std::byte* data, std::uint64_t bytes) {
  constexpr std::uint64_t kSamples = 8;
  std::uint64_t mixed = bytes;
  for (std::uint64_t i = 0; i < kSamples; ++i) {
    std::uint64_t word = 0;
    const std::uint64_t length = std::min<std::uint64_t>(sizeof word, bytes);
    const std::uint64_t at = (bytes - length) / (kSamples - 1) * i;
    std::memcpy(&word, data + at, length);
    mixed = base::Mix64(mixed ^ word);
  }
  return mixed;
}

}  // namespace

const std::byte* Capture::Held::Data() const {
  const at::Tensor& tensor = side.defined() ? side : state.tensor;
  return static_cast<const std::byte*>(tensor.const_data_ptr());
}

base::Result<std::unique_ptr<Capture>> Capture::Make(std::vector<StateTensor> tensors, base::Rank rank) {
  auto capture = std::make_unique<Capture>();
  capture->layout_.rank = rank;
  std::map<std::pair<std::string, bool>, std::size_t> parts;  // the changing and the frozen tensors of each
  std::uint64_t gathered_bytes = 0;                           // of non-contiguous tensors
  for (auto& tensor : tensors) {
    if (!Described(tensor, rank)) continue;
    Held held{.state = std::move(tensor)};
    const at::Tensor& source = held.state.tensor;
    held.address = source.const_data_ptr();
    if (held.state.eager) {
      if (!source.is_contiguous()) gathered_bytes += source.nbytes();
      if (gathered_bytes > kSideBytesMax) {
        return base::Fail(base::Code::kUnsupported, held.state.FullName(),
                          " is not contiguous, and with the others like it "
                          "takes more than ",
                          base::HumanBytes(kSideBytesMax), " to copy aside: make it contiguous before training");
      }
      held.side = torch::empty(source.sizes(),
                               source.options().memory_format(at::MemoryFormat::Contiguous).requires_grad(false));
      Side& side = capture->side_;
      side.bytes += held.side.nbytes();
      if (held.side.nbytes() > side.largest_bytes) {
        side.largest = held.state.FullName();
        side.largest_bytes = held.side.nbytes();
      }
    }
    const auto [part, added] =
        parts.emplace(std::pair(held.state.part, held.state.frozen), capture->layout_.parts.size());
    if (added) capture->layout_.parts.push_back({.part = held.state.part, .frozen = held.state.frozen});
    const std::vector<std::int64_t> shape = source.sizes().vec();
    capture->layout_.parts[part->second].tensors.push_back({.name = held.state.name,
                                                            .dtype = *ToDType(source.scalar_type()),
                                                            .global_shape = shape,
                                                            .box = checkpoint::WholeBox(shape)});
    capture->held_.push_back(std::move(held));
  }
  BELAY_TRY(checkpoint::ValidateLayout(capture->layout_));
  return capture;
}

bool Capture::Matches(const std::vector<StateTensor>& tensors) const {
  auto held = held_.begin();
  for (const StateTensor& tensor : tensors) {
    if (!Described(tensor, layout_.rank)) continue;
    if (held == held_.end()) return false;
    const StateTensor& ours = held->state;
    if (ours.part != tensor.part || ours.name != tensor.name || ours.eager != tensor.eager ||
        ours.frozen != tensor.frozen || held->address != tensor.tensor.const_data_ptr() ||
        ours.tensor.scalar_type() != tensor.tensor.scalar_type() || ours.tensor.sizes() != tensor.tensor.sizes() ||
        ours.tensor.strides() != tensor.tensor.strides() || ours.tensor.device() != tensor.tensor.device()) {
      return false;
    }
    ++held;
  }
  return held == held_.end();
}

bool Capture::HasCudaTensors() const {
  for (const Held& held : held_) {
    if (held.state.tensor.is_cuda()) return true;
  }
  return false;
}

std::vector<std::vector<checkpoint::Source>> Capture::Sources(const std::vector<checkpoint::ShardPlan>& plans) const {
  std::map<std::string, const Held*> by_name;
  for (const Held& held : held_) by_name.emplace(held.state.FullName(), &held);
  std::vector<std::vector<checkpoint::Source>> sources;
  for (const auto& plan : plans) {
    auto& of_plan = sources.emplace_back();
    for (const auto& entry : plan.entries) {
      const auto found = by_name.find(entry.name);
      BELAY_CHECK(found != by_name.end(), "no tensor for the planned entry ", entry.name);
      const at::Tensor& tensor = found->second->state.tensor;
      // Pieces are cut along dimension 0 only, so a piece is one run of rows.
      std::uint64_t offset = 0;
      if (!entry.box.offsets.empty() && entry.box.offsets[0] != 0) {
        offset = static_cast<std::uint64_t>(entry.box.offsets[0]) *
                 (tensor.nbytes() / static_cast<std::uint64_t>(tensor.size(0)));
      }
      BELAY_CHECK(offset + entry.bytes <= tensor.nbytes(), entry.name, ": the piece ends behind the tensor");
      of_plan.push_back({.data = found->second->Data() + offset, .bytes = entry.bytes});
    }
  }
  return sources;
}

void Capture::CopyEager() {
  torch::NoGradGuard no_grad;
  for (Held& held : held_) {
    if (held.side.defined()) held.side.copy_(held.state.tensor, /*non_blocking=*/true);
  }
}

std::function<bool()> Capture::Witness() const { return WitnessOf(/*frozen_only=*/false); }

std::function<bool()> Capture::FrozenWitness() const { return WitnessOf(/*frozen_only=*/true); }

std::function<bool()> Capture::WitnessOf(bool frozen_only) const {
  struct Seen {
    const Held* held;
    std::uint32_t version;
    std::uint64_t sample;
  };
  std::vector<Seen> seen;
  const auto sample = [](const at::Tensor& tensor) {
    return tensor.is_cpu() ? SampleOf(static_cast<const std::byte*>(tensor.const_data_ptr()), tensor.nbytes()) : 0;
  };
  for (const Held& held : held_) {
    if (held.side.defined() || (frozen_only && !held.state.frozen)) continue;
    seen.push_back({&held, VersionOf(held.state.tensor), sample(held.state.tensor)});
  }
  return [seen = std::move(seen), sample] {
    for (const Seen& one : seen) {
      const at::Tensor& tensor = one.held->state.tensor;
      if (VersionOf(tensor) != one.version || sample(tensor) != one.sample) return false;
    }
    return true;
  };
}

}  // namespace belay::runtime
