#include "runtime/comm/mpi_backend.h"

#include <optional>
#include <sstream>
#include <utility>

namespace belay::runtime {
namespace {

using c10d::OpType;

std::optional<Element> ElementOf(at::ScalarType type) {
  switch (type) {
    case at::kDouble:
      return Element::kDouble;
    case at::kFloat:
      return Element::kFloat;
    case at::kHalf:
      return Element::kHalf;
    case at::kBFloat16:
      return Element::kBFloat16;
    case at::kChar:
      return Element::kInt8;
    case at::kShort:
      return Element::kInt16;
    case at::kInt:
      return Element::kInt32;
    case at::kLong:
      return Element::kInt64;
    case at::kByte:
      return Element::kUint8;
    case at::kUInt16:
      return Element::kUint16;
    case at::kUInt32:
      return Element::kUint32;
    case at::kUInt64:
      return Element::kUint64;
    case at::kBool:
      return Element::kBool;
    default:
      return std::nullopt;
  }
}

Reduction ReductionOf(const c10d::ReduceOp& op) {
  switch (op.op_) {
    case c10d::ReduceOp::SUM:
      return Reduction::kSum;
    case c10d::ReduceOp::AVG:
      return Reduction::kAverage;
    case c10d::ReduceOp::PRODUCT:
      return Reduction::kProduct;
    case c10d::ReduceOp::MIN:
      return Reduction::kMin;
    case c10d::ReduceOp::MAX:
      return Reduction::kMax;
    case c10d::ReduceOp::BAND:
      return Reduction::kAnd;
    case c10d::ReduceOp::BOR:
      return Reduction::kOr;
    case c10d::ReduceOp::BXOR:
      return Reduction::kXor;
    default:
      TORCH_CHECK(false, "the MPI backend has no reduce operation number ", static_cast<int>(op.op_));
  }
}

void CheckTensor(const at::Tensor& tensor) {
  TORCH_CHECK(tensor.defined() && tensor.device().is_cpu() && !tensor.is_sparse(),
              "the MPI backend takes dense CPU tensors, not ",
              tensor.defined() ? tensor.toString() : "an undefined one");
}

const at::Tensor& OnlyTensor(const std::vector<at::Tensor>& tensors) {
  TORCH_CHECK(tensors.size() == 1, "the MPI backend takes one tensor a rank, not ", tensors.size());
  CheckTensor(tensors[0]);
  return tensors[0];
}

const std::vector<at::Tensor>& OnlyList(const std::vector<std::vector<at::Tensor>>& lists, int size) {
  TORCH_CHECK(lists.size() == 1, "the MPI backend takes one list of tensors a rank, not ", lists.size());
  TORCH_CHECK(static_cast<int>(lists[0].size()) == size, "a list of ", lists[0].size(), " tensors for ", size,
              " ranks");
  for (const at::Tensor& tensor : lists[0]) CheckTensor(tensor);
  return lists[0];
}

std::string Describe(const at::Tensor& tensor) { return c10::str(tensor.numel(), " ", tensor.scalar_type()); }

}  // namespace

// An operation being put together: which bytes it uses, and what is to be copied back when the user's tensor has gaps.
struct MpiBackend::Plan {
  OpType type = OpType::UNKNOWN;
  const char* title = "";
  std::string what;
  std::vector<at::Tensor> inputs;
  std::vector<at::Tensor> outputs;
  std::function<base::Status(Transfers&)> run;

  std::vector<at::Tensor> keep;
  std::vector<std::pair<at::Tensor, at::Tensor>> copies;  // to the first from the second, afterwards

  // Bytes to read.
  at::Tensor Read(const at::Tensor& tensor) {
    keep.push_back(tensor.detach().contiguous());
    return keep.back();
  }
  // Bytes to write, with the tensor's values in them.
  at::Tensor Write(const at::Tensor& tensor) {
    at::Tensor plain = tensor.detach();
    at::Tensor bytes = plain.contiguous();
    keep.push_back(bytes);
    if (!plain.is_contiguous()) copies.emplace_back(plain, bytes);
    return bytes;
  }
};

c10::intrusive_ptr<MpiBackend> MpiBackend::Make(MPI_Comm from, const Options& options) {
  auto collectives = CopyCommunicator(from);
  auto point_to_point = CopyCommunicator(from);
  for (const auto* copy : {&collectives, &point_to_point}) {
    if (!*copy) C10_THROW_ERROR(DistBackendError, copy->error().Text());
  }
  return c10::make_intrusive<MpiBackend>(*collectives, *point_to_point, options);
}

namespace {
int RankIn(MPI_Comm communicator) {
  int rank = 0;
  MPI_Comm_rank(communicator, &rank);
  return rank;
}
int SizeOf(MPI_Comm communicator) {
  int size = 1;
  MPI_Comm_size(communicator, &size);
  return size;
}
}  // namespace

MpiBackend::MpiBackend(MPI_Comm collectives, MPI_Comm point_to_point, const Options& options)
    : c10d::Backend(RankIn(collectives), SizeOf(collectives)),
      options_(options),
      collectives_(collectives),
      point_to_point_(point_to_point),
      worker_(std::make_unique<MpiWorker>(collectives, point_to_point, options.limits)) {
  int* upper = nullptr;
  int found = 0;
  MPI_Comm_get_attr(point_to_point_, MPI_TAG_UB, static_cast<void*>(&upper), &found);
  if (found != 0) tag_max_ = *upper;
}

MpiBackend::~MpiBackend() { abort(); }

c10::intrusive_ptr<c10d::Backend::Options> MpiBackend::getBackendOptions() {
  return c10::static_intrusive_pointer_cast<c10d::Backend::Options>(c10::make_intrusive<Options>(options_));
}

void MpiBackend::shutdown() {
  if (!worker_) return;
  const bool clean = worker_->Drain();
  worker_.reset();
  // After a failure the ranks cannot free them together.
  if (!clean) return;
  FreeCommunicator(&collectives_);
  FreeCommunicator(&point_to_point_);
}

void MpiBackend::abort() {
  if (worker_) worker_->Abandon();
  worker_.reset();
}

MpiBackend::WorkPtr MpiBackend::Submit(Plan plan, std::chrono::milliseconds timeout) {
  TORCH_CHECK(worker_, "the MPI backend was shut down");
  ++sequence_;
  auto work = c10::make_intrusive<MpiWork>(rank_, plan.type, plan.title, std::move(plan.what), plan.inputs,
                                           std::move(plan.outputs));
  MpiWorker::Operation operation;
  operation.work = work;
  operation.timeout = timeout == c10d::kUnsetTimeout ? options_.timeout : timeout;
  operation.run = std::move(plan.run);
  operation.keep = std::move(plan.keep);
  if (!plan.copies.empty()) {
    operation.after = [copies = std::move(plan.copies)]() mutable {
      const c10::NoGradGuard no_grad;
      for (auto& [to, from] : copies) to.copy_(from);
    };
  }
  worker_->Submit(std::move(operation));
  return work;
}

MpiBackend::WorkPtr MpiBackend::broadcast(std::vector<at::Tensor>& tensors, const c10d::BroadcastOptions& options) {
  const at::Tensor& tensor = OnlyTensor(tensors);
  TORCH_CHECK(options.rootRank >= 0 && options.rootRank < size_, "there is no rank ", options.rootRank);
  Plan plan{OpType::BROADCAST, "mpi:broadcast", c10::str("broadcast (", Describe(tensor), ")"), tensors, tensors};
  const at::Tensor bytes = plan.Write(tensor);
  plan.run = [data = bytes.mutable_data_ptr(), n = bytes.nbytes(), root = static_cast<int>(options.rootRank)](
                 Transfers& transfers) { return transfers.Broadcast(data, n, root); };
  return Submit(std::move(plan), options.timeout);
}

namespace {
// What allreduce, reduce and reduce_scatter need to know of a tensor.
Element CheckReduction(const at::Tensor& tensor, Reduction reduction) {
  const auto element = ElementOf(tensor.scalar_type());
  TORCH_CHECK(element, "the MPI backend cannot reduce tensors of ", tensor.scalar_type());
  TORCH_CHECK(ReductionApplies(reduction, *element), "there is no ", std::string(ReductionName(reduction)), " of ",
              tensor.scalar_type(), " tensors");
  return *element;
}
std::string DescribeReduction(const char* name, Reduction reduction, const at::Tensor& tensor) {
  return c10::str(name, " (", std::string(ReductionName(reduction)), ", ", Describe(tensor), ")");
}
}  // namespace

MpiBackend::WorkPtr MpiBackend::allreduce(std::vector<at::Tensor>& tensors, const c10d::AllreduceOptions& options) {
  OnlyTensor(tensors);
  c10d::AllreduceCoalescedOptions all;
  static_cast<c10d::AllreduceOptions&>(all) = options;
  return allreduce_coalesced(tensors, all);
}

MpiBackend::WorkPtr MpiBackend::allreduce_coalesced(std::vector<at::Tensor>& tensors,
                                                    const c10d::AllreduceCoalescedOptions& options) {
  TORCH_CHECK(!tensors.empty(), "allreduce of no tensor");
  const Reduction reduction = ReductionOf(options.reduceOp);
  Plan plan{tensors.size() == 1 ? OpType::ALLREDUCE : OpType::ALLREDUCE_COALESCED, "mpi:all_reduce",
            DescribeReduction("allreduce", reduction, tensors[0]), tensors, tensors};
  struct Part {
    void* data;
    std::size_t count;
    Element element;
  };
  std::vector<Part> parts;
  for (const at::Tensor& tensor : tensors) {
    CheckTensor(tensor);
    const Element element = CheckReduction(tensor, reduction);
    const at::Tensor bytes = plan.Write(tensor);
    parts.push_back({bytes.mutable_data_ptr(), static_cast<std::size_t>(bytes.numel()), element});
  }
  plan.run = [parts = std::move(parts), reduction](Transfers& transfers) -> base::Status {
    for (const Part& part : parts) BELAY_TRY(transfers.AllReduce(part.data, part.count, part.element, reduction));
    return {};
  };
  return Submit(std::move(plan), options.timeout);
}

MpiBackend::WorkPtr MpiBackend::reduce(std::vector<at::Tensor>& tensors, const c10d::ReduceOptions& options) {
  const at::Tensor& tensor = OnlyTensor(tensors);
  TORCH_CHECK(options.rootRank >= 0 && options.rootRank < size_, "there is no rank ", options.rootRank);
  const Reduction reduction = ReductionOf(options.reduceOp);
  const Element element = CheckReduction(tensor, reduction);
  Plan plan{OpType::REDUCE, "mpi:reduce", DescribeReduction("reduce", reduction, tensor), tensors, tensors};
  const int root = static_cast<int>(options.rootRank);
  const at::Tensor bytes = root == rank_ ? plan.Write(tensor) : plan.Read(tensor);
  plan.run = [data = bytes.mutable_data_ptr(), n = static_cast<std::size_t>(bytes.numel()), element, reduction,
              root](Transfers& transfers) { return transfers.Reduce(data, n, element, reduction, root); };
  return Submit(std::move(plan), options.timeout);
}

namespace {
// The bytes of rank r of an operation that only moves them.
struct Slot {
  void* data;
  std::size_t bytes;
};
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
// A contiguous tensor cut into equal slots, one a rank.
std::vector<Slot> Cut(const at::Tensor& bytes, int size) {
  std::vector<Slot> slots;
  const std::size_t share = bytes.nbytes() / size;
  auto* data = static_cast<std::byte*>(bytes.mutable_data_ptr());
  for (int rank = 0; rank < size; ++rank) slots.push_back({data + rank * share, share});
  return slots;
}
std::vector<Slot> SameForAll(const at::Tensor& bytes, int size) {
  return std::vector<Slot>(size, Slot{bytes.mutable_data_ptr(), bytes.nbytes()});
}
}  // namespace

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

MpiBackend::WorkPtr MpiBackend::reduce_scatter(std::vector<at::Tensor>& outputs,
                                               std::vector<std::vector<at::Tensor>>& inputs,
                                               const c10d::ReduceScatterOptions& options) {
  const at::Tensor& output = OnlyTensor(outputs);
  const auto& list = OnlyList(inputs, size_);
  const Reduction reduction = ReductionOf(options.reduceOp);
  const Element element = CheckReduction(output, reduction);
  Plan plan{OpType::REDUCE_SCATTER, "mpi:reduce_scatter", DescribeReduction("reduce_scatter", reduction, output), list,
            outputs};
  std::vector<const void*> parts;
  std::vector<std::size_t> counts;
  for (const at::Tensor& input : list) {
    TORCH_CHECK(input.scalar_type() == output.scalar_type(), "reduce_scatter: tensors of one type");
    const at::Tensor bytes = plan.Read(input);
    parts.push_back(bytes.const_data_ptr());
    counts.push_back(bytes.numel());
  }
  const at::Tensor out = plan.Write(output);
  TORCH_CHECK(counts[rank_] == static_cast<std::size_t>(out.numel()),
              "reduce_scatter: this rank's input and its output differ in size");
  plan.run = [parts = std::move(parts), counts = std::move(counts), data = out.mutable_data_ptr(), element, reduction](
                 Transfers& transfers) { return transfers.ReduceScatter(parts, counts, data, element, reduction); };
  return Submit(std::move(plan), options.timeout);
}

MpiBackend::WorkPtr MpiBackend::_reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                                                     const c10d::ReduceScatterOptions& options) {
  std::vector<at::Tensor> outputs = {output};
  std::vector<at::Tensor> inputs = {input};
  return reduce_scatter_tensor_coalesced(outputs, inputs, options);
}

MpiBackend::WorkPtr MpiBackend::reduce_scatter_tensor_coalesced(std::vector<at::Tensor>& outputs,
                                                                std::vector<at::Tensor>& inputs,
                                                                const c10d::ReduceScatterOptions& options) {
  TORCH_CHECK(outputs.size() == inputs.size() && !inputs.empty(), "reduce_scatter: as many inputs as outputs");
  const Reduction reduction = ReductionOf(options.reduceOp);
  Plan plan{OpType::_REDUCE_SCATTER_BASE, "mpi:_reduce_scatter_base",
            DescribeReduction("reduce_scatter", reduction, outputs[0]), inputs, outputs};
  struct Part {
    std::vector<const void*> inputs;
    std::vector<std::size_t> counts;
    void* out;
    Element element;
  };
  std::vector<Part> parts;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    CheckTensor(inputs[i]);
    CheckTensor(outputs[i]);
    TORCH_CHECK(outputs[i].scalar_type() == inputs[i].scalar_type() && inputs[i].numel() == outputs[i].numel() * size_,
                "reduce_scatter: the input must hold the outputs of ", size_, " ranks");
    Part part;
    part.element = CheckReduction(outputs[i], reduction);
    for (const Slot& slot : Cut(plan.Read(inputs[i]), size_)) part.inputs.push_back(slot.data);
    part.counts.assign(size_, outputs[i].numel());
    part.out = plan.Write(outputs[i]).mutable_data_ptr();
    parts.push_back(std::move(part));
  }
  plan.run = [parts = std::move(parts), reduction](Transfers& transfers) -> base::Status {
    for (const Part& part : parts) {
      BELAY_TRY(transfers.ReduceScatter(part.inputs, part.counts, part.out, part.element, reduction));
    }
    return {};
  };
  return Submit(std::move(plan), options.timeout);
}

namespace {
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
  OnlyTensor(tensors);
  return Post(tensors[0], MPI_ANY_SOURCE, tag, false);
}

MpiBackend::WorkPtr MpiBackend::barrier(const c10d::BarrierOptions& options) {
  Plan plan{OpType::BARRIER, "mpi:barrier", "barrier"};
  plan.run = [](Transfers& transfers) { return transfers.Barrier(); };
  return Submit(std::move(plan), options.timeout);
}

}  // namespace belay::runtime
