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
// the next backward() or torch::autograd::grad() waits for the copy (a hook on the parameters does it), so the update
// cannot overtake it. What changes earlier (buffers, random number generators, sampler, records) is captured inside
// step_done.
//
// Code that changes parameters or optimizer state with no such pass since step_done must call before_update() first. If
// it does not, and writes with torch's operations, belay notices and gives the snapshot up with an error. Writes that
// leave no trace in torch (through .data(), a raw pointer, a kernel of your own) it notices by samples of the bytes on
// the CPU, and not at all on a GPU: the snapshot may then hold a mix of two steps.
//
// A save that fails, also for want of memory, is reported and training goes on; only resume() throws (belay::Error:
// nothing fits, all are damaged). All methods on the training thread. All ranks call resume, step_done and save_now
// alike.
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
  std::uint32_t keep_every = 0;  // also keep the first at or after each multiple of this
  std::uint32_t keep_best = 0;   // also keep the so many best by `best_metric`
  std::string best_metric = "loss";
  bool larger_is_better = false;
  bool save_at_end = true;  // finish() saves the last step
  // So many steps after a resume prove its checkpoint good (or `every`, if that is less). Runs that fail before, or
  // give a "loss" (or `best_metric`) that is not finite where it was at the saved step, make it suspect: an older one
  // is tried. 0: neither.
  std::uint32_t trust_steps = 10;
};

class Checkpointer {
 public:
  explicit Checkpointer(Session& session, CheckpointOptions options = {});
  ~Checkpointer();
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;

  // Names are [a-z][a-z0-9_]*, unique. The objects must outlive the Checkpointer.
  // Parameters are taken as held alike by all ranks; buffers as rank 0's. Each save copies buffers aside first, which
  // takes memory of their size beside them.
  Checkpointer& add(const std::string& name, torch::nn::Module& module);
  // Adam, AdamW, SGD, RMSprop or Adagrad; parameter names come from the modules added before it.
  Checkpointer& add(const std::string& name, torch::optim::Optimizer& optimizer);
  Checkpointer& add(const std::string& name, PermutationSampler& sampler);
  // A tensor that all ranks hold alike, or with `per_rank` one of each rank's own.
  Checkpointer& add(const std::string& name, torch::Tensor& tensor, bool per_rank = false);
  // Anything small: bytes out, bytes in. Each rank saves its own.
  Checkpointer& add(const std::string& name, std::function<std::string()> save,
                    std::function<void(const std::string&)> load);

  // Loads the newest checkpoint that is whole and not suspect, trying older ones after a damaged one; the first step to
  // run, 0 at a fresh start. Also restores random number generators (per rank; derived anew from seed, step and rank if
  // the world size changed). With the saved world size everything that was saved must have been added again.
  std::int64_t resume();

  // After the update of `step` (0-based). kStop: asked to stop, and the state after this step is committed.
  // `metrics` go into the manifest of a checkpoint saved here ("loss" for `keep_best`). Throws belay::Error (65) if
  // the loss is not finite soon after a resume; see `trust_steps`.
  Next step_done(std::int64_t step, const std::map<std::string, double>& metrics = {});

  // Waits until the copy under way is done. Call it before a change of parameters or optimizer state that no backward()
  // or grad() since step_done precedes.
  void before_update();
  // Saves the state as it stands and waits for the commit. Call it only right after step_done (or resume): the state is
  // taken for that after the last finished step. False, with the reason on stderr, if it failed or no step is known
  // yet.
  bool save_now(const std::string& reason = "request");

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace belay
