// Calls something at the end of every backward pass: the last moment before an optimizer may change the parameters.
//
// Hooks on the gradient accumulators notice that a backward pass runs; the first of them in a pass queues a callback on
// the engine, which calls it when all gradients (and the reducer's averages) are there, on the thread that called
// backward.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include <torch/torch.h>

namespace belay::runtime {

class BackwardHook {
 public:
  explicit BackwardHook(std::function<void()> at_end);
  ~BackwardHook();  // nothing is called any more, also by hooks left on parameters that live on
  BackwardHook(const BackwardHook&) = delete;
  BackwardHook& operator=(const BackwardHook&) = delete;

  // Parameters watched already are passed over. Cheap enough to be called at every save.
  void Watch(const std::vector<at::Tensor>& parameters);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace belay::runtime
