// The parts of a session that need torch, apart so that session_state.h does not.
#pragma once

#include <functional>
#include <memory>

#include <torch/torch.h>

#include "runtime/base/result.h"
#include "runtime/comm/process_groups.h"
#include "runtime/cuda/copy_engine.h"

namespace belay::detail {

struct TorchParts {
  torch::Device device = torch::kCPU;
  runtime::ProcessGroups groups;
  // Seam: makes what copies tensors aside, on whatever device they lie. Unset: memcpy, or CUDA where one is on a GPU.
  std::function<base::Result<std::unique_ptr<runtime::CopyEngine>>()> copy_engine;
};

}  // namespace belay::detail
