#include "runtime/checkpointer/backward_hook.h"

#include <atomic>
#include <map>

#include <torch/csrc/autograd/engine.h>

namespace belay::runtime {

struct BackwardHook::Shared {
  std::function<void()> at_end;
  std::atomic<bool> alive{true};
  // The backward pass that has its callback already; the gradients of several GPUs come on several threads.
  std::atomic<int> queued_for{-1};
  // Weak, so that a parameter which the program dropped is freed; but its address is not given to another one.
  std::map<const void*, c10::weak_intrusive_ptr<c10::TensorImpl>> watched;
};

BackwardHook::BackwardHook(std::function<void()> at_end) : shared_(std::make_shared<Shared>()) {
  shared_->at_end = std::move(at_end);
}

BackwardHook::~BackwardHook() { shared_->alive = false; }

void BackwardHook::Watch(const std::vector<at::Tensor>& parameters) {
  for (const at::Tensor& parameter : parameters) {
    if (!parameter.requires_grad()) continue;
    const auto [at, added] = shared_->watched.emplace(parameter.unsafeGetTensorImpl(), parameter.getIntrusivePtr());
    if (!added) continue;
    // A hook of the tensor, not of its accumulator: grad() computes the same gradients and accumulates none.
    parameter.register_hook([weak = std::weak_ptr<Shared>(shared_)](const at::TensorBase& /*gradient*/) {
      const auto shared = weak.lock();
      if (shared == nullptr || !shared->alive) return;
      const int pass = torch::autograd::get_current_graph_task_id();
      if (shared->queued_for.exchange(pass) == pass) return;
      torch::autograd::Engine::get_default_engine().queue_callback([weak] {
        const auto still = weak.lock();
        if (still != nullptr && still->alive) still->at_end();
      });
    });
  }
}

}  // namespace belay::runtime
