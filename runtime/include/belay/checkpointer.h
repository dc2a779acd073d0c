// The Checkpointer: saves and restores everything that training needs to go on bit for bit.
//
//   belay::Checkpointer checkpointer(session, {.every = 100});
//   checkpointer.add("model", *model).add("optimizer", optimizer).add("sampler", sampler);
//   for (auto step = checkpointer.resume(); step < steps; ++step) {
//     ... forward, backward, optimizer.step() ...
//     if (checkpointer.step_done(step) == belay::Next::kStop) break;
//   }
//
// A save copies parameters and optimizer state to belayd's memory beside the next forward and backward pass; the end of
// the next backward waits for the copy (a hook on the parameters does it), so the update cannot overtake it. What
// changes earlier (buffers, random number generators, sampler, records) is captured inside step_done. Should some code
// change a tensor while it is being copied all the same, the snapshot is given up with an error, never committed.
//
// A save that fails is reported and training goes on; only resume() throws (belay::Error: nothing fits, all are
// damaged). All methods on the training thread. All ranks call resume and step_done alike.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include <torch/torch.h>

#include "belay/session.h"

namespace belay {

class PermutationSampler;

enum class Next { kContinue, kStop };

struct CheckpointOptions {
  std::int64_t every = 100;  // steps between saves; 0: only when stopped and at the end
  std::uint32_t keep_last = 3;
  std::uint32_t keep_every = 0;  // also keep each step divisible by this
  std::uint32_t keep_best = 0;   // also keep the so many best by `best_metric`
  std::string best_metric = "loss";
  bool larger_is_better = false;
  bool save_at_end = true;  // finish() saves the last step
};

class Checkpointer {
 public:
  explicit Checkpointer(Session& session, CheckpointOptions options = {});
  ~Checkpointer();
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;

  // Names are [a-z][a-z0-9_]*, unique. The objects must outlive the Checkpointer.
  // Parameters are taken as held alike by all ranks; buffers as rank 0's.
  Checkpointer& add(const std::string& name, torch::nn::Module& module);
  // Adam, AdamW, SGD, RMSprop or Adagrad; parameter names come from the modules added before it.
  Checkpointer& add(const std::string& name, torch::optim::Optimizer& optimizer);
  Checkpointer& add(const std::string& name, PermutationSampler& sampler);
  // A tensor that all ranks hold alike, or with `per_rank` one of each rank's own.
  Checkpointer& add(const std::string& name, torch::Tensor& tensor, bool per_rank = false);
  // Anything small: bytes out, bytes in. Each rank saves its own.
  Checkpointer& add(const std::string& name, std::function<std::string()> save,
                    std::function<void(const std::string&)> load);

  // Loads the newest checkpoint that is whole, trying older ones after a damaged one; the first step to run, 0 at a
  // fresh start. Also restores random number generators (per rank; derived anew from seed, step and rank if the world
  // size changed).
  std::int64_t resume();

  // After the update of `step` (0-based). kStop: asked to stop, and the state after this step is committed.
  // `metrics` go into the manifest of a checkpoint saved here ("loss" for `keep_best`).
  Next step_done(std::int64_t step, const std::map<std::string, double>& metrics = {});

  // Waits until the copy under way is done. Call it before changing state outside an autograd backward pass.
  void before_update();
  // Saves the state after the last finished step and waits for the commit; false, with the reason on stderr, if it
  // failed.
  bool save_now(const std::string& reason = "request");

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace belay
