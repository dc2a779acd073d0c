#include <span>
#include <utility>

#include "runtime/comm/mpi_backend_plan.h"

namespace belay::runtime {

using backend::CheckTensor;
using backend::Cut;
using backend::Describe;
using backend::OnlyList;
using backend::OnlyTensor;
using backend::Slot;
using c10d::OpType;

namespace {

base::Status ExchangeAll(Transfers& transfers, const std::vector<Slot>& out, const std::vector<Slot>& in) {
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  const int size = transfers.size();
  for (int shift = 0; shift < size; ++shift) {
    const int to = (transfers.rank() + shift) % size;
    const int from = (transfers.rank() + size - shift) % size;
    if (!out.empty()) sends.push_back({to, out[to].data, out[to].bytes});
    if (!in.empty()) receives.push_back({from, in[from].data, in[from].bytes});
  }
  return transfers.Exchange(sends, receives);
}

std::vector<Slot> SameForAll(const at::Tensor& bytes, int size) {
  return std::vector<Slot>(size, Slot{bytes.mutable_data_ptr(), bytes.nbytes()});
}

// A tensor cut along its first dimension: by `splits`, or equally if there are none.
std::vector<Slot> CutRows(const at::Tensor& bytes, const std::vector<int64_t>& splits, int size) {
  if (splits.empty()) {
    TORCH_CHECK(bytes.dim() > 0 && bytes.size(0) % size == 0, "alltoall: ", size,
                " ranks do not divide the first dimension");
    return Cut(bytes, size);
  }
  TORCH_CHECK(static_cast<int>(splits.size()) == size, "alltoall: ", splits.size(), " splits for ", size, " ranks");
  int64_t rows = 0;
  for (const int64_t split : splits) {
    TORCH_CHECK(split >= 0, "alltoall: a negative split");
    rows += split;
  }
  TORCH_CHECK(bytes.dim() > 0 && rows == bytes.size(0), "alltoall: the splits do not add up to the first dimension");
  const std::size_t row_bytes = rows == 0 ? 0 : bytes.nbytes() / rows;
  auto* data = static_cast<std::byte*>(bytes.mutable_data_ptr());
  std::vector<Slot> slots;
  for (const int64_t split : splits) {
    slots.push_back({data, split * row_bytes});
    data += split * row_bytes;
  }
  return slots;
}

}  // namespace

MpiBackend::WorkPtr MpiBackend::broadcast(std::vector<at::Tensor>& tensors, const c10d::BroadcastOptions& options) {
  const at::Tensor& tensor = OnlyTensor(tensors);
  TORCH_CHECK(options.rootRank >= 0 && options.rootRank < size_, "there is no rank ", options.rootRank);
  Plan plan{OpType::BROADCAST, "mpi:broadcast", c10::str("broadcast (", Describe(tensor), ")"), tensors, tensors};
  const at::Tensor bytes = plan.Write(tensor);
  plan.run = [data = bytes.mutable_data_ptr(), n = bytes.nbytes(), root = static_cast<int>(options.rootRank)](
                 Transfers& transfers) { return transfers.Broadcast(data, n, root); };
  return Submit(std::move(plan), options.timeout);
}

MpiBackend::WorkPtr MpiBackend::allgather(std::vector<std::vector<at::Tensor>>& outputs,
                                          std::vector<at::Tensor>& inputs, const c10d::AllgatherOptions& options) {
  const at::Tensor& input = OnlyTensor(inputs);
  const auto& list = OnlyList(outputs, size_);
  Plan plan{OpType::ALLGATHER, "mpi:all_gather", c10::str("allgather (", Describe(input), ")"), inputs, list};
  auto out = SameForAll(plan.Read(input), size_);
  std::vector<Slot> in;
  for (const at::Tensor& output : list) {
    const at::Tensor bytes = plan.Write(output);
    in.push_back({bytes.mutable_data_ptr(), bytes.nbytes()});
  }
  TORCH_CHECK(in[rank_].bytes == out[rank_].bytes, "allgather: this rank's input and its output differ in size");
  plan.run = [out = std::move(out), in = std::move(in)](Transfers& transfers) {
    return ExchangeAll(transfers, out, in);
  };
  return Submit(std::move(plan), options.timeout);
}

MpiBackend::WorkPtr MpiBackend::_allgather_base(at::Tensor& output, at::Tensor& input,
                                                const c10d::AllgatherOptions& options) {
  std::vector<at::Tensor> outputs = {output};
  std::vector<at::Tensor> inputs = {input};
  return allgather_into_tensor_coalesced(outputs, inputs, options);
}

MpiBackend::WorkPtr MpiBackend::allgather_into_tensor_coalesced(std::vector<at::Tensor>& outputs,
                                                                std::vector<at::Tensor>& inputs,
                                                                const c10d::AllgatherOptions& options) {
  TORCH_CHECK(outputs.size() == inputs.size() && !inputs.empty(), "allgather: as many inputs as outputs");
  Plan plan{OpType::_ALLGATHER_BASE, "mpi:_all_gather_base", c10::str("allgather (", Describe(inputs[0]), ")"), inputs,
            outputs};
  std::vector<std::pair<std::vector<Slot>, std::vector<Slot>>> parts;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    CheckTensor(inputs[i]);
    CheckTensor(outputs[i]);
    TORCH_CHECK(outputs[i].scalar_type() == inputs[i].scalar_type() && outputs[i].numel() == inputs[i].numel() * size_,
                "allgather: the output must hold the inputs of ", size_, " ranks");
    auto out = SameForAll(plan.Read(inputs[i]), size_);
    parts.emplace_back(std::move(out), Cut(plan.Write(outputs[i]), size_));
  }
  plan.run = [parts = std::move(parts)](Transfers& transfers) -> base::Status {
    for (const auto& [out, in] : parts) BELAY_TRY(ExchangeAll(transfers, out, in));
    return {};
  };
  return Submit(std::move(plan), options.timeout);
}

MpiBackend::WorkPtr MpiBackend::gather(std::vector<std::vector<at::Tensor>>& outputs, std::vector<at::Tensor>& inputs,
                                       const c10d::GatherOptions& options) {
  const at::Tensor& input = OnlyTensor(inputs);
  const int root = static_cast<int>(options.rootRank);
  TORCH_CHECK(root >= 0 && root < size_, "there is no rank ", root);
  TORCH_CHECK(rank_ == root || outputs.empty(), "gather: only the root has outputs");
  Plan plan{OpType::GATHER, "mpi:gather", c10::str("gather (", Describe(input), ")"), inputs, {}};
  const at::Tensor own = plan.Read(input);
  const Slot out{own.mutable_data_ptr(), own.nbytes()};
  std::vector<Incoming> receives;
  if (rank_ == root) {
    plan.outputs = OnlyList(outputs, size_);
    for (int rank = 0; rank < size_; ++rank) {
      const at::Tensor bytes = plan.Write(outputs[0][rank]);
      receives.push_back({rank, bytes.mutable_data_ptr(), bytes.nbytes()});
    }
    TORCH_CHECK(receives[rank_].bytes == out.bytes, "gather: this rank's input and its output differ in size");
  }
  plan.run = [out, root, receives = std::move(receives)](Transfers& transfers) {
    const Outgoing send{root, out.data, out.bytes};
    return transfers.Exchange(std::span(&send, 1), receives);
  };
  return Submit(std::move(plan), options.timeout);
}

MpiBackend::WorkPtr MpiBackend::scatter(std::vector<at::Tensor>& outputs, std::vector<std::vector<at::Tensor>>& inputs,
                                        const c10d::ScatterOptions& options) {
  const at::Tensor& output = OnlyTensor(outputs);
  const int root = static_cast<int>(options.rootRank);
  TORCH_CHECK(root >= 0 && root < size_, "there is no rank ", root);
  TORCH_CHECK(rank_ == root || inputs.empty(), "scatter: only the root has inputs");
  Plan plan{OpType::SCATTER, "mpi:scatter", c10::str("scatter (", Describe(output), ")"), {}, outputs};
  const at::Tensor own = plan.Write(output);
  const Slot in{own.mutable_data_ptr(), own.nbytes()};
  std::vector<Outgoing> sends;
  if (rank_ == root) {
    plan.inputs = OnlyList(inputs, size_);
    for (int rank = 0; rank < size_; ++rank) {
      const at::Tensor bytes = plan.Read(inputs[0][rank]);
      sends.push_back({rank, bytes.const_data_ptr(), bytes.nbytes()});
    }
    TORCH_CHECK(sends[rank_].bytes == in.bytes, "scatter: this rank's input and its output differ in size");
  }
  plan.run = [in, root, sends = std::move(sends)](Transfers& transfers) {
    const Incoming receive{root, in.data, in.bytes};
    return transfers.Exchange(sends, std::span(&receive, 1));
  };
  return Submit(std::move(plan), options.timeout);
}

MpiBackend::WorkPtr MpiBackend::alltoall_base(at::Tensor& output, at::Tensor& input,
                                              std::vector<int64_t>& output_splits, std::vector<int64_t>& input_splits,
                                              const c10d::AllToAllOptions& options) {
  CheckTensor(output);
  CheckTensor(input);
  TORCH_CHECK(output.scalar_type() == input.scalar_type(), "alltoall: tensors of one type");
  Plan plan{OpType::ALLTOALL_BASE, "mpi:all_to_all", c10::str("alltoall (", Describe(input), ")"), {input}, {output}};
  auto out = CutRows(plan.Read(input), input_splits, size_);
  auto in = CutRows(plan.Write(output), output_splits, size_);
  TORCH_CHECK(out[rank_].bytes == in[rank_].bytes, "alltoall: this rank's own parts differ in size");
  plan.run = [out = std::move(out), in = std::move(in)](Transfers& transfers) {
    return ExchangeAll(transfers, out, in);
  };
  return Submit(std::move(plan), options.timeout);
}

MpiBackend::WorkPtr MpiBackend::alltoall(std::vector<at::Tensor>& outputs, std::vector<at::Tensor>& inputs,
                                         const c10d::AllToAllOptions& options) {
  OnlyList({outputs}, size_);
  OnlyList({inputs}, size_);
  Plan plan{OpType::ALLTOALL, "mpi:all_to_all", c10::str("alltoall (", Describe(inputs[0]), ")"), inputs, outputs};
  std::vector<Slot> out;
  std::vector<Slot> in;
  for (int rank = 0; rank < size_; ++rank) {
    const at::Tensor from = plan.Read(inputs[rank]);
    const at::Tensor to = plan.Write(outputs[rank]);
    out.push_back({from.mutable_data_ptr(), from.nbytes()});
    in.push_back({to.mutable_data_ptr(), to.nbytes()});
  }
  TORCH_CHECK(out[rank_].bytes == in[rank_].bytes, "alltoall: this rank's own parts differ in size");
  plan.run = [out = std::move(out), in = std::move(in)](Transfers& transfers) {
    return ExchangeAll(transfers, out, in);
  };
  return Submit(std::move(plan), options.timeout);
}

MpiBackend::WorkPtr MpiBackend::Post(at::Tensor& tensor, int peer, int tag, bool sends) {
  TORCH_CHECK(worker_, "the MPI backend was shut down");
  TORCH_CHECK(tag >= 0 && tag <= tag_max_, "a tag must be 0 to ", tag_max_, ", not ", tag);
  TORCH_CHECK(peer == MPI_ANY_SOURCE || (peer >= 0 && peer < size_ && peer != rank_), "rank ", rank_,
              " cannot exchange messages with rank ", peer);
  const OpType type = sends ? OpType::SEND : peer == MPI_ANY_SOURCE ? OpType::RECVANYSOURCE : OpType::RECV;
  Plan plan{type, sends ? "mpi:send" : "mpi:recv", c10::str(sends ? "send (" : "recv (", Describe(tensor), ")")};
  if (peer != MPI_ANY_SOURCE) plan.what += c10::str(sends ? " to rank " : " from rank ", peer);
  (sends ? plan.inputs : plan.outputs).push_back(tensor);
  const at::Tensor bytes = sends ? plan.Read(tensor) : plan.Write(tensor);
  auto work = c10::make_intrusive<MpiWork>(rank_, plan.type, plan.title, plan.what, plan.inputs, plan.outputs);
  if (const auto broken = worker_->Broken()) {
    work->Fail(MakeBackendError(plan.what, rank_, size_, AfterFailure(*broken)));
    return work;
  }
  // Posted here, not by the worker, so that messages keep the order of the calls and pass a collective that waits.
  const std::size_t limit = options_.limits.message_bytes;
  auto message =
      sends ? PointToPoint::Send(point_to_point_, bytes.const_data_ptr(), bytes.nbytes(), peer, tag, limit)
            : PointToPoint::Receive(point_to_point_, bytes.mutable_data_ptr(), bytes.nbytes(), peer, tag, limit);
  if (!message) std::rethrow_exception(MakeBackendError(plan.what, rank_, size_, message.error()));
  MpiWorker::Letter letter;
  letter.work = work;
  letter.deadline = options_.timeout.count() > 0 ? base::SystemClock().Now() + options_.timeout : kNoDeadline;
  letter.message = std::move(*message);
  letter.keep = std::move(plan.keep);
  if (!plan.copies.empty()) {
    letter.after = [copies = std::move(plan.copies)]() mutable {
      const c10::NoGradGuard no_grad;
      for (auto& [to, from] : copies) to.copy_(from);
    };
  }
  worker_->Submit(std::move(letter));
  return work;
}

MpiBackend::WorkPtr MpiBackend::send(std::vector<at::Tensor>& tensors, int to, int tag) {
  OnlyTensor(tensors);
  TORCH_CHECK(to >= 0, "there is no rank ", to);
  return Post(tensors[0], to, tag, true);
}

MpiBackend::WorkPtr MpiBackend::recv(std::vector<at::Tensor>& tensors, int from, int tag) {
  OnlyTensor(tensors);
  TORCH_CHECK(from >= 0, "there is no rank ", from);
  return Post(tensors[0], from, tag, false);
}

MpiBackend::WorkPtr MpiBackend::recvAnysource(std::vector<at::Tensor>& tensors, int tag) {
  const std::size_t limit = options_.limits.message_bytes;
  const std::size_t bytes = OnlyTensor(tensors).nbytes();
  TORCH_CHECK(bytes <= limit, "recvAnysource takes tensors of at most ", limit, " bytes, one message, not of ", bytes,
              ": the parts of a longer one could mix with another rank's. Receive it from a given rank, or in pieces");
  return Post(tensors[0], MPI_ANY_SOURCE, tag, false);
}

}  // namespace belay::runtime
