// c10d on Open MPI, for CPU tensors.
//
// Element types: double, float, half, bfloat16, integers of 8 to 64 bits, bool; operations that only move bytes take
// any. Tensors need not be contiguous, and may be of any size (from anybody: of one message, 256 MiB). Results depend
// on the values and the world alone, bit for bit, and are the same on every rank (transfers.h says how). Sum, average
// (floating), product, minimum, maximum; band, bor, bxor (integers, bool).
//
// Every operation is asynchronous: collectives run in the order of the calls on one thread, sends and receives beside
// them. Errors: wrong arguments throw c10::Error from the call; what goes wrong later throws c10::DistBackendError from
// wait(), with operation, rank and MPI's words, and all later operations fail too. An operation that the other ranks do
// not join fails after the timeout (30 minutes unless set) and names the ranks that are missing.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <vector>

#include <torch/torch.h>
#include <torch/csrc/distributed/c10d/Backend.hpp>

#include "runtime/comm/mpi_worker.h"

namespace belay::runtime {

class MpiBackend : public c10d::Backend {
 public:
  struct Options : c10d::Backend::Options {
    Options() : c10d::Backend::Options("mpi") {}
    TransferLimits limits;
  };

  // On copies of `from`; collective, as is Close. Throws c10::DistBackendError.
  static c10::intrusive_ptr<MpiBackend> Make(MPI_Comm from, const Options& options);
  MpiBackend(MPI_Comm collectives, MPI_Comm point_to_point, const Options& options);
  ~MpiBackend() override;

  const std::string getBackendName() const override { return "mpi"; }
  c10::intrusive_ptr<c10d::Backend::Options> getBackendOptions() override;
  void setTimeout(std::chrono::milliseconds timeout) override { options_.timeout = timeout; }
  void setSequenceNumberForGroup() override { sequence_ = 0; }
  std::uint64_t getSequenceNumberForGroup() override { return sequence_; }
  // Of the first failure, once there was one: TIMEOUT or COMM_ERROR.
  c10d::ErrorType getError() override;

  using WorkPtr = c10::intrusive_ptr<c10d::Work>;
  WorkPtr broadcast(std::vector<at::Tensor>& tensors, const c10d::BroadcastOptions& options) override;
  WorkPtr allreduce(std::vector<at::Tensor>& tensors, const c10d::AllreduceOptions& options) override;
  WorkPtr allreduce_coalesced(std::vector<at::Tensor>& tensors,
                              const c10d::AllreduceCoalescedOptions& options) override;
  WorkPtr reduce(std::vector<at::Tensor>& tensors, const c10d::ReduceOptions& options) override;
  WorkPtr allgather(std::vector<std::vector<at::Tensor>>& outputs, std::vector<at::Tensor>& inputs,
                    const c10d::AllgatherOptions& options) override;
  WorkPtr _allgather_base(at::Tensor& output, at::Tensor& input, const c10d::AllgatherOptions& options) override;
  WorkPtr allgather_into_tensor_coalesced(std::vector<at::Tensor>& outputs, std::vector<at::Tensor>& inputs,
                                          const c10d::AllgatherOptions& options) override;
  WorkPtr gather(std::vector<std::vector<at::Tensor>>& outputs, std::vector<at::Tensor>& inputs,
                 const c10d::GatherOptions& options) override;
  WorkPtr scatter(std::vector<at::Tensor>& outputs, std::vector<std::vector<at::Tensor>>& inputs,
                  const c10d::ScatterOptions& options) override;
  WorkPtr reduce_scatter(std::vector<at::Tensor>& outputs, std::vector<std::vector<at::Tensor>>& inputs,
                         const c10d::ReduceScatterOptions& options) override;
  WorkPtr _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                               const c10d::ReduceScatterOptions& options) override;
  WorkPtr reduce_scatter_tensor_coalesced(std::vector<at::Tensor>& outputs, std::vector<at::Tensor>& inputs,
                                          const c10d::ReduceScatterOptions& options) override;
  WorkPtr alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>& output_splits,
                        std::vector<int64_t>& input_splits, const c10d::AllToAllOptions& options) override;
  WorkPtr alltoall(std::vector<at::Tensor>& outputs, std::vector<at::Tensor>& inputs,
                   const c10d::AllToAllOptions& options) override;
  WorkPtr send(std::vector<at::Tensor>& tensors, int to, int tag) override;
  WorkPtr recv(std::vector<at::Tensor>& tensors, int from, int tag) override;
  WorkPtr recvAnysource(std::vector<at::Tensor>& tensors, int tag) override;  // at most limits.message_bytes
  WorkPtr barrier(const c10d::BarrierOptions& options) override;

  // Completes what is under way and frees the communicators; all ranks together. Nothing may be called after it.
  void shutdown() override;
  // Fails what is under way; waits for nobody.
  void abort() override;

 private:
  struct Plan;
  WorkPtr Submit(Plan plan, std::chrono::milliseconds timeout);
  WorkPtr Post(at::Tensor& tensor, int peer, int tag, bool sends);

  Options options_;
  MPI_Comm collectives_;
  MPI_Comm point_to_point_;
  int tag_max_ = 32767;
  std::atomic<std::uint64_t> sequence_ = 0;
  std::unique_ptr<MpiWorker> worker_;  // null: ended
  std::optional<base::Error> broken_;  // once ended: what had failed by then
};

}  // namespace belay::runtime
