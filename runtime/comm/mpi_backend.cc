#include "runtime/comm/mpi_backend.h"

#include <optional>
#include <utility>

#include "runtime/comm/mpi_backend_plan.h"

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

}  // namespace

namespace backend {

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

std::vector<Slot> Cut(const at::Tensor& bytes, int size) {
  std::vector<Slot> slots;
  const std::size_t share = bytes.nbytes() / size;
  auto* data = static_cast<std::byte*>(bytes.mutable_data_ptr());
  for (int rank = 0; rank < size; ++rank) slots.push_back({data + rank * share, share});
  return slots;
}

}  // namespace backend

using backend::CheckTensor;
using backend::Cut;
using backend::Describe;
using backend::OnlyList;
using backend::OnlyTensor;
using backend::Slot;

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
  broken_ = worker_->Broken();
  worker_.reset();
  // After a failure the ranks cannot free them together.
  if (!clean) return;
  FreeCommunicator(&collectives_);
  FreeCommunicator(&point_to_point_);
}

void MpiBackend::abort() {
  if (!worker_) return;
  worker_->Abandon();
  broken_ = worker_->Broken();
  worker_.reset();
}

c10d::ErrorType MpiBackend::getError() {
  const auto broken = worker_ ? worker_->Broken() : broken_;
  if (!broken) return c10d::ErrorType::SUCCESS;
  return broken->code == base::Code::kTimeout ? c10d::ErrorType::TIMEOUT : c10d::ErrorType::COMM_ERROR;
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

MpiBackend::WorkPtr MpiBackend::barrier(const c10d::BarrierOptions& options) {
  Plan plan{OpType::BARRIER, "mpi:barrier", "barrier"};
  plan.run = [](Transfers& transfers) { return transfers.Barrier(); };
  return Submit(std::move(plan), options.timeout);
}

}  // namespace belay::runtime
