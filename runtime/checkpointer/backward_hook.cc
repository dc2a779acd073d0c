#include "runtime/checkpointer/backward_hook.h"

#include <atomic>
#include <set>

#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>

namespace belay::runtime {

struct BackwardHook::Shared {
  std::function<void()> at_end;
  std::atomic<bool> alive{true};
  // The backward pass that has its callback already; accumulators of several GPUs run on several threads.
  std::atomic<int> queued_for{-1};
  std::set<const void*> watched;
  // The tensor holds its accumulator only weakly; without these the hooks would vanish with the first graph.
  std::vector<std::shared_ptr<torch::autograd::Node>> accumulators;
};

BackwardHook::BackwardHook(std::function<void()> at_end) : shared_(std::make_shared<Shared>()) {
  shared_->at_end = std::move(at_end);
}

BackwardHook::~BackwardHook() { shared_->alive = false; }

void BackwardHook::Watch(const std::vector<at::Tensor>& parameters) {
  for (const at::Tensor& parameter : parameters) {
    if (!shared_->watched.insert(parameter.unsafeGetTensorImpl()).second) continue;
    auto accumulator = torch::autograd::impl::grad_accumulator(parameter);
    if (accumulator == nullptr) continue;  // does not require a gradient
    using torch::autograd::variable_list;
    const std::weak_ptr<Shared> weak = shared_;
    accumulator->add_post_hook(std::make_unique<torch::autograd::utils::LambdaPostHook>(
        [weak](const variable_list& outputs, const variable_list& /*inputs*/) {
          const auto shared = weak.lock();
          if (shared == nullptr || !shared->alive) return outputs;
          const int pass = torch::autograd::get_current_graph_task_id();
          if (shared->queued_for.exchange(pass) != pass) {
            torch::autograd::Engine::get_default_engine().queue_callback([weak] {
              const auto still = weak.lock();
              if (still != nullptr && still->alive) still->at_end();
            });
          }
          return outputs;
        }));
    shared_->accumulators.push_back(std::move(accumulator));
  }
}

}  // namespace belay::runtime
