// NCCL for CUDA tensors: c10d's own ProcessGroupNCCL, which finds its peers through a store that MPI introduces.
//
// Compiled always, used where GPUs are. It has been compiled and linked, but has not run on a GPU yet: no machine that
// builds belay had one.
#pragma once

#include <chrono>

#include <torch/torch.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

#include "runtime/comm/mpi_control.h"

namespace belay::runtime {

// A key-value store of all ranks: rank 0 listens on a free port and says where by MPI. `single_node`: on the loopback
// address only. Collective. Throws c10::Error.
c10::intrusive_ptr<c10d::Store> MakeStore(MpiControl& control, bool single_node, std::chrono::milliseconds timeout);

// For tensors on `device`. Collective. Throws c10::Error.
c10::intrusive_ptr<c10d::Backend> MakeNcclBackend(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                  torch::Device device, std::chrono::milliseconds timeout);

}  // namespace belay::runtime
