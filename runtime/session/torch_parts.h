// The parts of a session that need torch, apart so that session_state.h does not.
#pragma once

#include <torch/torch.h>

#include "runtime/comm/process_groups.h"

namespace belay::detail {

struct TorchParts {
  torch::Device device = torch::kCPU;
  runtime::ProcessGroups groups;
};

}  // namespace belay::detail
