// Calls something at the end of every backward pass: the last moment before an optimizer may change the parameters.
//
// A hook on each parameter notices that a gradient for it was computed, by backward() or by torch::autograd::grad().
// The first of them in a pass queues a callback, which the engine calls when the pass has ended, before backward() or
// grad() returns. So gradients are there, but not what other callbacks do to them: those queued later (the averages of
// the c10d reducer) are called later. The callback runs on the thread that finished the pass: the one that called
// backward() for tensors on the CPU, the engine's thread of the device for those on a GPU, with the caller's streams
// current. The caller is blocked meanwhile and sees all that the callback did, so the two need no lock between them.
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

  // Parameters watched already, and those that require no gradient, are passed over. Cheap enough to be called at every
  // save.
  void Watch(const std::vector<at::Tensor>& parameters);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace belay::runtime
