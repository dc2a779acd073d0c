// What belay knows of each optimizer class: its state tensors, step counters and options. A new class is one Adapter.
//
// State tensors are "<parameter>.<field>" with PyTorch's own field names (exp_avg, momentum_buffer, ...). Everything
// that is not a tensor (class, step counters, the options of each parameter group) is one JSON record, doubles exact.
//
// All functions: training thread.
#pragma once

#include <map>
#include <string>
#include <vector>

#include <torch/torch.h>

#include "runtime/base/result.h"

namespace belay::runtime {

// Names of parameters, by the address that optimizers key their state with.
using ParameterNames = std::map<const void*, std::string>;

struct OptimizerTensor {
  std::string name;  // "<parameter>.<field>"
  at::Tensor tensor;
};

// kUnsupported for an optimizer class we do not know; kInvalidArgument for a parameter without a name.
base::Status CheckOptimizer(torch::optim::Optimizer& optimizer, const ParameterNames& names);

// Makes the state that the first step would make, where making it early changes nothing (all but SGD's momentum, which
// the first step makes from the gradient), so that the layout of the first save is that of all others.
void MaterialiseState(torch::optim::Optimizer& optimizer);

// Every defined state tensor, in the order of groups, parameters and fields.
std::vector<OptimizerTensor> OptimizerTensors(torch::optim::Optimizer& optimizer, const ParameterNames& names);

std::string SaveOptimizerRecord(torch::optim::Optimizer& optimizer, const ParameterNames& names);

// Sets options and step counters, drops the state tensors the record does not have and makes those it has (like their
// parameter in shape, dtype and device; values undefined until loaded). kLayoutMismatch says how record and program
// differ: class, number of groups, parameters of a group. kCorrupt if the record does not decode.
base::Status LoadOptimizerRecord(torch::optim::Optimizer& optimizer, const ParameterNames& names,
                                 const std::string& record);

}  // namespace belay::runtime
