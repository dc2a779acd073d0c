// The world's process group: our MPI backend for CPU tensors, NCCL for CUDA tensors where this rank has a GPU.
#pragma once

#include <chrono>

#include <torch/torch.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "runtime/comm/mpi_backend.h"
#include "runtime/comm/mpi_control.h"

namespace belay::runtime {

struct ProcessGroups {
  c10::intrusive_ptr<c10d::ProcessGroup> world;
  c10::intrusive_ptr<MpiBackend> mpi;      // its part for CPU tensors
  c10::intrusive_ptr<c10d::Backend> nccl;  // its part for CUDA tensors; null where this rank has no GPU

  // Completes what is under way and ends both parts; all ranks together, before MPI is left. NCCL first: its threads
  // watch the other ranks and report those that leave before it was told. Its error (kCommunication) does not keep the
  // MPI part from being ended.
  base::Status Shutdown();
  // Fails what is under way and ends both parts; waits for no other rank. Throws nothing.
  void Abort();
};

struct ProcessGroupOptions {
  torch::Device device = torch::kCPU;
  bool single_node = true;
  std::chrono::milliseconds timeout = std::chrono::minutes(30);  // of every operation
  TransferLimits limits;
};

// Collective. Throws c10::Error.
ProcessGroups MakeProcessGroups(MpiControl& control, const ProcessGroupOptions& options);

}  // namespace belay::runtime
