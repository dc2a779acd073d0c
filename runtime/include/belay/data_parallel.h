// Data parallelism: every rank holds the whole model and sees its own samples; gradients are averaged while backward
// runs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include <torch/torch.h>

#include "belay/session.h"

namespace belay {

struct DataParallelOptions {
  std::int64_t bucket_bytes = 25 * 1024 * 1024;
  bool broadcast_buffers = true;  // rank 0's buffers before each training forward, as PyTorch's own does
  // Look for parameters that this forward did not use (they count as zero gradients of this rank). Costs a walk over
  // the graph and a small all-reduce each step; without it a forward that leaves one out is an error.
  bool find_unused_parameters = false;
};

// Around a module; broadcasts rank 0's parameters and buffers when made. Buckets are assigned once and stay, because a
// rebuilt bucket would change the order of additions. With one rank it adds nothing.
//
//   belay::DataParallel parallel(session, *model);
//   auto loss = parallel.forward([&] { return loss_of(model->forward(x), y); });   // a scalar, or a tensor of losses
//   loss.backward();                                                              // gradients are averaged on return
class DataParallel {
 public:
  DataParallel(Session& session, torch::nn::Module& module, DataParallelOptions options = {});
  ~DataParallel();
  DataParallel(const DataParallel&) = delete;
  DataParallel& operator=(const DataParallel&) = delete;
  // With `reduce_gradients` false the gradients only add up on this rank: for all but the last micro-batch of a step.
  torch::Tensor forward(const std::function<torch::Tensor()>& compute, bool reduce_gradients = true);
  // Gives rank 0's buffers, those that a checkpoint holds, to all ranks. Collective. Before an evaluation: BatchNorm's
  // statistics of the last training forward are each rank's own until the next one.
  void sync_buffers();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace belay
