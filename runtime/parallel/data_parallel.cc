#include "belay/data_parallel.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

#include <torch/csrc/distributed/c10d/comm.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include "runtime/base/exit_status.h"
#include "runtime/base/str.h"

namespace belay {
namespace {

// Each tensor once, in order of registration, though modules may share it.
template <typename Items>
std::vector<torch::Tensor> Distinct(const Items& items, bool trainable_only) {
  std::vector<torch::Tensor> tensors;
  std::unordered_set<const void*> seen;
  for (const torch::Tensor& tensor : items) {
    if (!tensor.defined() || (trainable_only && !tensor.requires_grad())) continue;
    if (seen.insert(tensor.unsafeGetTensorImpl()).second) tensors.push_back(tensor);
  }
  return tensors;
}

}  // namespace

class DataParallel::Impl {
 public:
  Impl(Session& session, torch::nn::Module& module, const DataParallelOptions& options)
      : group_(session.process_group()), module_(module), options_(options) {
    if (session.world_size() == 1) return;
    parameters_ = Distinct(module.parameters(), true);
    if (parameters_.empty()) {
      throw Error(static_cast<int>(base::ExitStatus::kSoftware),
                  "DataParallel: the module has no trainable parameters");
    }
    c10d::verify_params_across_processes(group_, parameters_, std::nullopt);
    BroadcastAll(Distinct(module.parameters(), false));
    BroadcastAll(Distinct(module.buffers(), false));
    MakeReducer();
    if (!options_.find_unused_parameters) Rehearse();
  }

  torch::Tensor Forward(const std::function<torch::Tensor()>& compute, bool reduce_gradients) {
    const bool trains = torch::GradMode::is_enabled() && module_.is_training();
    if (trains && options_.broadcast_buffers) SyncBuffers();
    torch::Tensor output = compute();
    if (reducer_ && trains && reduce_gradients) {
      std::vector<torch::Tensor> outputs;
      if (options_.find_unused_parameters) outputs.push_back(output);
      reducer_->prepare_for_backward(outputs);
    }
    return output;
  }

  void SyncBuffers() {
    if (reducer_) BroadcastAll(Distinct(module_.buffers(), false));
  }

 private:
  void BroadcastAll(const std::vector<torch::Tensor>& tensors) {
    if (tensors.empty()) return;
    const torch::NoGradGuard no_grad;
    constexpr std::size_t kBroadcastBytes = std::size_t{250} << 20;
    // broadcast_coalesced flattens, so it wants one type at a time.
    std::unordered_map<c10::ScalarType, std::vector<torch::Tensor>> by_type;
    std::vector<c10::ScalarType> order;
    for (const torch::Tensor& tensor : tensors) {
      auto& list = by_type[tensor.scalar_type()];
      if (list.empty()) order.push_back(tensor.scalar_type());
      list.push_back(tensor.detach());
    }
    for (const c10::ScalarType type : order) c10d::broadcast_coalesced(group_, by_type[type], kBroadcastBytes);
  }

  void MakeReducer() {
    const std::vector<bool> sparse(parameters_.size(), false);
    const auto cap = static_cast<std::size_t>(options_.bucket_bytes);
    const std::size_t first = std::min<std::size_t>(cap, c10d::kDefaultFirstBucketBytes);
    auto [buckets, limits] = c10d::compute_bucket_assignment_by_size(parameters_, {first, cap}, sparse);
    // Gradients come in about the reverse order of registration.
    std::vector<std::vector<std::size_t>> reversed(buckets.rbegin(), buckets.rend());
    std::unordered_map<std::size_t, std::string> names;
    const auto named = module_.named_parameters();
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      for (const auto& item : named) {
        if (item.value().is_same(parameters_[i])) names.emplace(i, item.key());
      }
    }
    reducer_ = std::make_shared<c10d::Reducer>(
        parameters_, std::move(reversed), group_, sparse, options_.bucket_bytes, options_.find_unused_parameters,
        /*gradient_as_bucket_view=*/false, std::move(names), static_cast<std::int64_t>(first),
        /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false, std::vector<std::int64_t>());
  }

  // The Reducer wants to rebuild its buckets once, in the order in which the first backward pass brought the gradients,
  // and collects that order at every step until it may. A resumed run would have its first step in other buckets than
  // the uninterrupted one. So give it a backward pass of nothing now, in reverse order of registration, and let it
  // rebuild before the first step: the buckets depend on the module alone.
  void Rehearse() {
    std::vector<torch::Tensor> gradients;
    for (const torch::Tensor& parameter : parameters_) gradients.push_back(parameter.grad());
    {
      const torch::AutoGradMode grad(true);
      for (torch::Tensor& parameter : parameters_) parameter.mutable_grad() = torch::Tensor();
      // The engine runs what was recorded last first.
      torch::Tensor nothing = torch::zeros({}, parameters_[0].options().dtype(torch::kFloat).requires_grad(false));
      for (const torch::Tensor& parameter : parameters_) {
        nothing = nothing + (parameter.flatten().slice(0, 0, 1) * 0).sum().to(torch::kFloat);
      }
      reducer_->prepare_for_backward({});
      nothing.backward();
    }
    reducer_->rebuild_buckets();
    for (std::size_t i = 0; i < parameters_.size(); ++i) parameters_[i].mutable_grad() = gradients[i];
  }

  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  torch::nn::Module& module_;
  DataParallelOptions options_;
  std::vector<torch::Tensor> parameters_;
  std::shared_ptr<c10d::Reducer> reducer_;
};

DataParallel::DataParallel(Session& session, torch::nn::Module& module, DataParallelOptions options)
    : impl_(std::make_unique<Impl>(session, module, options)) {}
DataParallel::~DataParallel() = default;

torch::Tensor DataParallel::forward(const std::function<torch::Tensor()>& compute, bool reduce_gradients) {
  return impl_->Forward(compute, reduce_gradients);
}

void DataParallel::sync_buffers() { impl_->SyncBuffers(); }

}  // namespace belay
