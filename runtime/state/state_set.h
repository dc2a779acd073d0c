// Everything a program asked belay to keep, by name: modules, optimizers, samplers, tensors, records.
//
// The only place, with capture and restore beside it, that knows torch's modules and optimizers. Holds references: the
// objects must outlive it. Training thread only.
#pragma once

#include <functional>
#include <string>
#include <variant>
#include <vector>

#include <torch/torch.h>

#include "checkpoint/format/manifest.h"
#include "runtime/base/ids.h"
#include "runtime/base/result.h"
#include "runtime/state/optimizers.h"
#include "runtime/state/tensors.h"

namespace belay::runtime {

// Bytes out, bytes in; both may throw.
struct RecordHooks {
  std::function<std::string()> save;
  std::function<void(const std::string&)> load;
};

class StateSet {
 public:
  StateSet(base::Rank rank, at::Device device) : rank_(rank), device_(device) {}

  // kInvalidArgument: bad or doubled name, a parameter of the optimizer that no module has, a tensor that is not
  // defined or whose type checkpoints do not carry.
  base::Status AddModule(const std::string& name, torch::nn::Module& module);
  base::Status AddOptimizer(const std::string& name, torch::optim::Optimizer& optimizer);
  base::Status AddTensor(const std::string& name, torch::Tensor& tensor, bool per_rank);
  // `shared`: the record means the same on every rank (the sampler's count), so that rank 0's serves any world size.
  base::Status AddRecord(const std::string& name, RecordHooks hooks, bool shared);

  // Makes optimizer state early where that changes nothing (see MaterialiseState).
  void Materialise();
  // All tensors as they stand now, of all holders, each memory once. Tensors without elements are left out.
  base::Result<std::vector<StateTensor>> Describe() const;
  // Parameters whose gradients mean that an update is near.
  std::vector<at::Tensor> TrainedParameters() const;

  // Small things as they stand now: optimizers' records, samplers, custom records, random number generators.
  base::Result<checkpoint::Records> SaveRecords() const;
  // Names in `records` (one rank's) that no optimizer or record here would take up. Random number generators' are not
  // among them.
  std::vector<std::string> SurplusRecords(const checkpoint::Records& records) const;
  // Makes optimizer state fit the records, before tensors are loaded. kLayoutMismatch, kCorrupt.
  base::Status LoadOptimizers(const checkpoint::Records& records);
  // The rest, after tensors are loaded.
  struct Origin {
    base::Step step;
    bool same_world = true;  // false: the generators are derived anew from the saved seed, step and rank
  };
  base::Status LoadOthers(const checkpoint::Records& own, const checkpoint::Records& main, const Origin& origin);

  base::Rank rank() const { return rank_; }

 private:
  struct ModuleItem {
    torch::nn::Module* module;
  };
  struct OptimizerItem {
    torch::optim::Optimizer* optimizer;
  };
  struct TensorItem {
    torch::Tensor* tensor;
    bool per_rank;
  };
  struct RecordItem {
    RecordHooks hooks;
    bool shared;
  };
  struct Item {
    std::string name;
    std::variant<ModuleItem, OptimizerItem, TensorItem, RecordItem> what;
  };

  base::Status CheckName(const std::string& name) const;
  // Plain names while one module is there, "<module>.<parameter>" with several.
  ParameterNames NamesOfParameters() const;

  base::Rank rank_;
  at::Device device_;
  std::vector<Item> items_;
};

}  // namespace belay::runtime
