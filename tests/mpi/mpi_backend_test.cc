#include "runtime/comm/mpi_backend.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>

#include "runtime/comm/mpi_control.h"
#include "runtime/session/session_state.h"
#include "runtime/session/torch_parts.h"
#include "tests/mpi/world.h"

namespace belay::runtime {
namespace {

using c10d::ReduceOp;
using tests::World;

const std::vector<at::ScalarType> kTypes = {at::kDouble, at::kFloat,  at::kHalf, at::kBFloat16, at::kChar,
                                            at::kShort,  at::kInt,    at::kLong, at::kByte,     at::kUInt16,
                                            at::kUInt32, at::kUInt64, at::kBool};
bool IsFloating(at::ScalarType type) { return c10::isFloatingType(type); }

int Rank() { return World().rank(); }
int Size() { return World().world_size(); }

// Small whole numbers, exact in every type; `salt` tells operations apart. bool: 0 and 1.
double ValueOf(int rank, std::int64_t i, at::ScalarType type, int salt) {
  const auto mixed = static_cast<std::int64_t>((rank * 7 + i * 3 + salt * 5) % 11);
  if (type == at::kBool) return mixed % 3 != 0 ? 1 : 0;
  return static_cast<double>(mixed % 4);
}

at::Tensor Values(int rank, std::int64_t count, at::ScalarType type, int salt = 0) {
  auto tensor = torch::empty({count}, torch::kDouble);
  auto* data = tensor.data_ptr<double>();
  for (std::int64_t i = 0; i < count; ++i) data[i] = ValueOf(rank, i, type, salt);
  return tensor.to(type);
}

double Apply(ReduceOp::RedOpType op, double a, double b, at::ScalarType type) {
  const auto x = static_cast<std::int64_t>(a);
  const auto y = static_cast<std::int64_t>(b);
  const bool logical = type == at::kBool;
  switch (op) {
    case ReduceOp::SUM:
    case ReduceOp::AVG:
      return logical ? (x | y) : a + b;
    case ReduceOp::PRODUCT:
      return logical ? (x & y) : a * b;
    case ReduceOp::MIN:
      return std::min(a, b);
    case ReduceOp::MAX:
      return std::max(a, b);
    case ReduceOp::BAND:
      return static_cast<double>(x & y);
    case ReduceOp::BOR:
      return static_cast<double>(x | y);
    case ReduceOp::BXOR:
      return static_cast<double>(x ^ y);
    default:
      return 0;
  }
}

at::Tensor Reduced(ReduceOp::RedOpType op, std::int64_t count, at::ScalarType type, int salt = 0) {
  auto tensor = torch::empty({count}, torch::kDouble);
  auto* data = tensor.data_ptr<double>();
  for (std::int64_t i = 0; i < count; ++i) {
    double sum = ValueOf(0, i, type, salt);
    for (int rank = 1; rank < Size(); ++rank) sum = Apply(op, sum, ValueOf(rank, i, type, salt), type);
    data[i] = op == ReduceOp::AVG ? sum / Size() : sum;
  }
  return tensor.to(type);
}

void ExpectSame(const at::Tensor& got, const at::Tensor& wanted, const std::string& what) {
  EXPECT_TRUE(got.sizes() == wanted.sizes() && got.scalar_type() == wanted.scalar_type()) << what;
  // Comparisons know no uint16 and wider: look at the bytes.
  EXPECT_TRUE(torch::equal(got.contiguous().view(at::kByte), wanted.contiguous().view(at::kByte)))
      << what << ": got " << got.to(at::kDouble) << " wanted " << wanted.to(at::kDouble);
}

std::vector<ReduceOp::RedOpType> OpsFor(at::ScalarType type) {
  std::vector<ReduceOp::RedOpType> ops = {ReduceOp::SUM, ReduceOp::PRODUCT, ReduceOp::MIN, ReduceOp::MAX};
  if (IsFloating(type)) {
    ops.push_back(ReduceOp::AVG);
  } else {
    for (const auto op : {ReduceOp::BAND, ReduceOp::BOR, ReduceOp::BXOR}) ops.push_back(op);
  }
  return ops;
}

std::string Name(at::ScalarType type, int op = -1) { return c10::str(type, " op ", op, " on rank ", Rank()); }

// The session's own group, or a backend with limits so low that everything is cut into many pieces.
class MpiBackendTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (!GetParam()) {
      backend_ = World().state().torch->groups.mpi;
      return;
    }
    MpiBackend::Options options;
    options.limits = {.message_bytes = 24, .piece_bytes = 64};
    made_ = MpiBackend::Make(World().state().control().communicator(), options);
    backend_ = made_;
  }
  void TearDown() override {
    if (made_) made_->shutdown();
  }

  c10::intrusive_ptr<MpiBackend> backend_, made_;
};

INSTANTIATE_TEST_SUITE_P(Limits, MpiBackendTest, testing::Values(false, true),
                         [](const auto& given) { return given.param ? "Tiny" : "Usual"; });

TEST_P(MpiBackendTest, AllReducesEveryTypeWithEveryOperation) {
  for (const auto type : kTypes) {
    for (const auto op : OpsFor(type)) {
      for (const std::int64_t count : {0, 1, 3, 101, 5000}) {
        std::vector<at::Tensor> tensors = {Values(Rank(), count, type)};
        c10d::AllreduceOptions options;
        options.reduceOp = op;
        EXPECT_TRUE(backend_->allreduce(tensors, options)->wait());
        ExpectSame(tensors[0], Reduced(op, count, type), "allreduce " + Name(type, op));
      }
    }
  }
}

TEST_P(MpiBackendTest, AllReducesSeveralTensorsTogether) {
  std::vector<at::Tensor> tensors = {Values(Rank(), 5, at::kFloat, 1), Values(Rank(), 17, at::kLong, 2)};
  EXPECT_TRUE(backend_->allreduce_coalesced(tensors, {})->wait());
  ExpectSame(tensors[0], Reduced(ReduceOp::SUM, 5, at::kFloat, 1), "first");
  ExpectSame(tensors[1], Reduced(ReduceOp::SUM, 17, at::kLong, 2), "second");
}

TEST_P(MpiBackendTest, ReducesToAnyRootAndLeavesTheOthersAlone) {
  for (const auto type : kTypes) {
    for (int root = 0; root < Size(); ++root) {
      for (const std::int64_t count : {7, 3000}) {
        std::vector<at::Tensor> tensors = {Values(Rank(), count, type)};
        c10d::ReduceOptions options;
        options.rootRank = root;
        EXPECT_TRUE(backend_->reduce(tensors, options)->wait());
        const auto wanted = Rank() == root ? Reduced(ReduceOp::SUM, count, type) : Values(Rank(), count, type);
        ExpectSame(tensors[0], wanted, "reduce " + Name(type));
      }
    }
  }
}

TEST_P(MpiBackendTest, BroadcastsFromAnyRoot) {
  for (const auto type : kTypes) {
    for (int root = 0; root < Size(); ++root) {
      std::vector<at::Tensor> tensors = {Values(Rank(), 37, type)};
      c10d::BroadcastOptions options;
      options.rootRank = root;
      EXPECT_TRUE(backend_->broadcast(tensors, options)->wait());
      ExpectSame(tensors[0], Values(root, 37, type), "broadcast " + Name(type));
    }
  }
}

TEST_P(MpiBackendTest, Gathers) {
  for (const auto type : kTypes) {
    std::vector<at::Tensor> inputs = {Values(Rank(), 13, type)};
    std::vector<std::vector<at::Tensor>> outputs(1);
    for (int rank = 0; rank < Size(); ++rank) outputs[0].push_back(torch::zeros({13}, type));
    EXPECT_TRUE(backend_->allgather(outputs, inputs, {})->wait());
    for (int rank = 0; rank < Size(); ++rank) ExpectSame(outputs[0][rank], Values(rank, 13, type), "allgather");

    auto flat = torch::zeros({13 * Size()}, type);
    EXPECT_TRUE(backend_->_allgather_base(flat, inputs[0], {})->wait());
    std::vector<at::Tensor> wanted;
    for (int rank = 0; rank < Size(); ++rank) wanted.push_back(Values(rank, 13, type));
    ExpectSame(flat, torch::cat(wanted), "_allgather_base " + Name(type));

    const int root = Size() - 1;
    std::vector<std::vector<at::Tensor>> gathered;
    if (Rank() == root) gathered.emplace_back();
    for (int rank = 0; Rank() == root && rank < Size(); ++rank) gathered[0].push_back(torch::zeros({13}, type));
    c10d::GatherOptions options;
    options.rootRank = root;
    EXPECT_TRUE(backend_->gather(gathered, inputs, options)->wait());
    for (int rank = 0; Rank() == root && rank < Size(); ++rank) ExpectSame(gathered[0][rank], wanted[rank], "gather");
  }
}

TEST_P(MpiBackendTest, GathersSeveralTensorsTogether) {
  std::vector<at::Tensor> inputs = {Values(Rank(), 4, at::kFloat), Values(Rank(), 9, at::kInt, 1)};
  std::vector<at::Tensor> outputs = {torch::zeros({Size(), 4}), torch::zeros({Size(), 9}, at::kInt)};
  EXPECT_TRUE(backend_->allgather_into_tensor_coalesced(outputs, inputs, {})->wait());
  for (int rank = 0; rank < Size(); ++rank) {
    ExpectSame(outputs[0][rank], Values(rank, 4, at::kFloat), "first");
    ExpectSame(outputs[1][rank], Values(rank, 9, at::kInt, 1), "second");
  }
}

TEST_P(MpiBackendTest, ScattersFromAnyRoot) {
  for (int root = 0; root < Size(); ++root) {
    std::vector<at::Tensor> outputs = {torch::zeros({21}, at::kHalf)};
    std::vector<std::vector<at::Tensor>> inputs;
    if (Rank() == root) inputs.emplace_back();
    for (int rank = 0; Rank() == root && rank < Size(); ++rank) inputs[0].push_back(Values(rank, 21, at::kHalf, root));
    c10d::ScatterOptions options;
    options.rootRank = root;
    EXPECT_TRUE(backend_->scatter(outputs, inputs, options)->wait());
    ExpectSame(outputs[0], Values(Rank(), 21, at::kHalf, root), "scatter");
  }
}

TEST_P(MpiBackendTest, ReducesAndScatters) {
  for (const auto type : kTypes) {
    for (const auto op : OpsFor(type)) {
      c10d::ReduceScatterOptions options;
      options.reduceOp = op;
      // Rank r's part for rank p carries salt p; the parts differ in size.
      std::vector<std::vector<at::Tensor>> inputs(1);
      for (int rank = 0; rank < Size(); ++rank) inputs[0].push_back(Values(Rank(), 20 + 3 * rank, type, rank));
      std::vector<at::Tensor> outputs = {torch::zeros({20 + 3 * Rank()}, type)};
      EXPECT_TRUE(backend_->reduce_scatter(outputs, inputs, options)->wait());
      ExpectSame(outputs[0], Reduced(op, 20 + 3 * Rank(), type, Rank()), "reduce_scatter " + Name(type, op));

      std::vector<at::Tensor> parts;
      for (int rank = 0; rank < Size(); ++rank) parts.push_back(Values(Rank(), 31, type, rank));
      auto input = torch::cat(parts);
      auto output = torch::zeros({31}, type);
      EXPECT_TRUE(backend_->_reduce_scatter_base(output, input, options)->wait());
      ExpectSame(output, Reduced(op, 31, type, Rank()), "_reduce_scatter_base " + Name(type, op));
    }
  }
}

TEST_P(MpiBackendTest, ExchangesAllToAll) {
  // Rank r sends r + p + 1 rows to rank p.
  const auto rows = [](int from, int to) { return static_cast<std::int64_t>(from + to + 1); };
  for (const auto type : {at::kFloat, at::kBool, at::kLong}) {
    std::vector<at::Tensor> inputs, outputs, wanted;
    std::vector<std::int64_t> input_rows, output_rows;
    for (int rank = 0; rank < Size(); ++rank) {
      input_rows.push_back(rows(Rank(), rank));
      output_rows.push_back(rows(rank, Rank()));
      inputs.push_back(Values(Rank(), input_rows.back() * 3, type, rank).view({-1, 3}));
      outputs.push_back(torch::zeros({output_rows.back(), 3}, type));
      wanted.push_back(Values(rank, output_rows.back() * 3, type, Rank()).view({-1, 3}));
    }
    EXPECT_TRUE(backend_->alltoall(outputs, inputs, {})->wait());
    for (int rank = 0; rank < Size(); ++rank) ExpectSame(outputs[rank], wanted[rank], "alltoall " + Name(type));

    auto input = torch::cat(inputs);
    auto output = torch::zeros_like(torch::cat(wanted));
    EXPECT_TRUE(backend_->alltoall_base(output, input, output_rows, input_rows, {})->wait());
    ExpectSame(output, torch::cat(wanted), "alltoall_base " + Name(type));

    std::vector<std::int64_t> equal;
    auto even_input = torch::arange(Size() * 2) + 100 * Rank();
    auto even_output = torch::zeros_like(even_input);
    EXPECT_TRUE(backend_->alltoall_base(even_output, even_input, equal, equal, {})->wait());
    for (int rank = 0; rank < Size(); ++rank) {
      EXPECT_EQ(even_output[2 * rank].item<std::int64_t>(), 100 * rank + 2 * Rank());
    }
  }
}

TEST_P(MpiBackendTest, SendsBothWaysAtOnceInOrder) {
  if (Size() == 1) return;
  const int to = (Rank() + 1) % Size();
  const int from = (Rank() + Size() - 1) % Size();
  std::vector<c10::intrusive_ptr<c10d::Work>> works;
  std::vector<std::vector<at::Tensor>> received, sent;
  for (int i = 0; i < 5; ++i) {
    received.push_back({torch::zeros({40 + i})});
    sent.push_back({Values(Rank(), 40 + i, at::kFloat, i)});
    works.push_back(backend_->recv(received.back(), from, 3));
  }
  for (int i = 0; i < 5; ++i) works.push_back(backend_->send(sent[i], to, 3));
  for (auto& work : works) EXPECT_TRUE(work->wait());
  for (int i = 0; i < 5; ++i) ExpectSame(received[i][0], Values(from, 40 + i, at::kFloat, i), "recv");
  EXPECT_EQ(works[0]->sourceRank(), from);
}

TEST_P(MpiBackendTest, ReceivesFromAnybody) {
  const std::int64_t count = GetParam() ? 6 : 33;  // a whole message of the tiny limit
  if (Rank() == 0) {
    std::vector<bool> heard(Size(), false);
    for (int i = 1; i < Size(); ++i) {
      std::vector<at::Tensor> tensors = {torch::zeros({count}, at::kInt)};
      auto work = backend_->recvAnysource(tensors, 9);
      EXPECT_TRUE(work->wait());
      const int from = work->sourceRank();
      EXPECT_FALSE(heard[from]);
      heard[from] = true;
      ExpectSame(tensors[0], Values(from, count, at::kInt, 4), "recvAnysource");
    }
  } else {
    std::vector<at::Tensor> tensors = {Values(Rank(), count, at::kInt, 4)};
    EXPECT_TRUE(backend_->send(tensors, 0, 9)->wait());
  }
}

// Two senders' parts would come in any order, and whoever receives next on the tag could take one of them.
TEST_P(MpiBackendTest, RefusesToReceiveFromAnybodyInParts) {
  if (!GetParam()) return;
  std::vector<at::Tensor> tensors = {torch::zeros({7}, at::kInt)};
  try {
    backend_->recvAnysource(tensors, 9);
    ADD_FAILURE() << "28 bytes are more than one message of 24";
  } catch (const c10::Error& error) {
    const std::string words = error.what_without_backtrace();
    EXPECT_NE(words.find("at most 24 bytes"), std::string::npos) << words;
    EXPECT_NE(words.find("of 28"), std::string::npos) << words;
  }
  EXPECT_EQ(backend_->getError(), c10d::ErrorType::SUCCESS) << "a wrong argument breaks nothing";
}

TEST_P(MpiBackendTest, TakesTensorsWithGaps) {
  // A transposed matrix, and every second element: what lies between must stay.
  auto whole = torch::full({2, 50}, -1.0F);
  auto gaps = whole.t().slice(0, 0, 50, 2);  // 25 x 2
  gaps.copy_(Values(Rank(), 50, at::kFloat).view({25, 2}));
  std::vector<at::Tensor> tensors = {gaps};
  EXPECT_TRUE(backend_->allreduce(tensors, {})->wait());
  ExpectSame(gaps.contiguous().view({50}), Reduced(ReduceOp::SUM, 50, at::kFloat), "allreduce");
  EXPECT_EQ((whole == -1.0F).sum().item<std::int64_t>(), 50);

  auto output = torch::zeros({13, Size()}).t();
  auto input = torch::stack({Values(Rank(), 13, at::kFloat), torch::zeros({13})}, 1).select(1, 0);
  EXPECT_FALSE(output.is_contiguous() && Size() > 1);
  EXPECT_TRUE(backend_->_allgather_base(output, input, {})->wait());
  for (int rank = 0; rank < Size(); ++rank) ExpectSame(output[rank], Values(rank, 13, at::kFloat), "gather");
}

TEST_P(MpiBackendTest, RunsBesideTheCaller) {
  // 50 operations in flight; each later one completes after the earlier ones.
  std::vector<std::vector<at::Tensor>> tensors;
  std::vector<c10::intrusive_ptr<c10d::Work>> works;
  for (int i = 0; i < 50; ++i) {
    tensors.push_back({Values(Rank(), 200, at::kFloat, i)});
    works.push_back(backend_->allreduce(tensors.back(), {}));
  }
  EXPECT_TRUE(works.back()->wait());
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(works[i]->isCompleted() && works[i]->isSuccess());
    const auto future = works[i]->getFuture();
    EXPECT_TRUE(future->completed());
    ExpectSame(future->value().toTensorVector()[0], Reduced(ReduceOp::SUM, 200, at::kFloat, i), "in flight");
  }
}

TEST_P(MpiBackendTest, SendsPassACollectiveThatWaits) {
  if (Size() < 2) return;
  // Rank 0 joins the barrier only after a message that rank 1 sends while it waits in it.
  std::vector<at::Tensor> tensors = {torch::full({10}, 5.0F)};
  if (Rank() == 0) {
    EXPECT_TRUE(backend_->recv(tensors, 1, 0)->wait());
    EXPECT_TRUE(backend_->barrier({})->wait());
  } else {
    auto barrier = backend_->barrier({});
    if (Rank() == 1) {
      EXPECT_TRUE(backend_->send(tensors, 0, 0)->wait());
    }
    EXPECT_TRUE(barrier->wait());
  }
}

TEST_P(MpiBackendTest, RefusesWhatItCannotDo) {
  std::vector<at::Tensor> two = {torch::zeros({1}), torch::zeros({1})};
  EXPECT_THROW(backend_->allreduce(two, {}), c10::Error);
  std::vector<at::Tensor> ints = {torch::zeros({1}, at::kInt)};
  c10d::AllreduceOptions average;
  average.reduceOp = ReduceOp::AVG;
  EXPECT_THROW(backend_->allreduce(ints, average), c10::Error);
  c10d::AllreduceOptions bits;
  bits.reduceOp = ReduceOp::BAND;
  std::vector<at::Tensor> floats = {torch::zeros({1})};
  EXPECT_THROW(backend_->allreduce(floats, bits), c10::Error);
  std::vector<at::Tensor> complex = {torch::zeros({1}, at::kComplexFloat)};
  EXPECT_THROW(backend_->allreduce(complex, {}), c10::Error);
  c10d::BroadcastOptions root;
  root.rootRank = Size();
  EXPECT_THROW(backend_->broadcast(floats, root), c10::Error);
  EXPECT_THROW(backend_->send(floats, Rank(), 0), c10::Error);
  EXPECT_THROW(backend_->send(floats, Size(), 0), c10::Error);
  if (Size() > 1) {
    EXPECT_THROW(backend_->send(floats, (Rank() + 1) % Size(), -1), c10::Error);
  }
}

// The order of additions does not depend on what else is in the buffer, nor on the limits.
TEST(MpiBackendResults, DependOnTheValuesAlone) {
  torch::manual_seed(17 + Rank());
  const auto values = torch::randn({3001}) * 1e3;
  std::vector<at::Tensor> whole = {values.clone()};
  auto& usual = *World().state().torch->groups.mpi;
  EXPECT_TRUE(usual.allreduce(whole, {})->wait());

  MpiBackend::Options options;
  options.limits = {.message_bytes = 100, .piece_bytes = 256};
  auto tiny = MpiBackend::Make(World().state().control().communicator(), options);
  std::vector<at::Tensor> again = {values.clone()};
  EXPECT_TRUE(tiny->allreduce(again, {})->wait());
  tiny->shutdown();
  ExpectSame(again[0], whole[0], "other limits");

  // The same numbers cut into buckets elsewhere.
  for (const auto& [begin, end] : {std::pair{0, 1000}, std::pair{1000, 1007}, std::pair{1007, 3001}}) {
    std::vector<at::Tensor> bucket = {values.slice(0, begin, end).clone()};
    EXPECT_TRUE(usual.allreduce(bucket, {})->wait());
    ExpectSame(bucket[0], whole[0].slice(0, begin, end), "bucket");
  }
  // And on all ranks alike.
  std::vector<at::Tensor> first = {whole[0].clone()};
  EXPECT_TRUE(usual.broadcast(first, {})->wait());
  ExpectSame(whole[0], first[0], "rank 0's");
}

TEST(MpiBackendResults, RoundHalfSumsOnce) {
  if (Size() < 3) return;
  // 2048 + 1 is 2048 in half, if rounded at every addition; 2048 + 1 + 1 + ... is not.
  auto tensor = torch::full({8}, Rank() == 0 ? 2048.0 : 1.0).to(at::kHalf);
  std::vector<at::Tensor> tensors = {tensor};
  EXPECT_TRUE(World().state().torch->groups.mpi->allreduce(tensors, {})->wait());
  const double wanted = torch::full({1}, 2048.0 + Size() - 1).to(at::kHalf).item<double>();
  EXPECT_EQ(tensors[0][3].item<double>(), wanted);
  EXPECT_GT(wanted, 2048.0);
}

TEST(MpiBackendResults, HandNansOn) {
  std::vector<at::Tensor> tensors = {torch::full({3}, Rank() == Size() - 1 ? NAN : 1.0F)};
  c10d::AllreduceOptions options;
  options.reduceOp = ReduceOp::MAX;
  EXPECT_TRUE(World().state().torch->groups.mpi->allreduce(tensors, options)->wait());
  EXPECT_TRUE(tensors[0].isnan().all().item<bool>());
}

void ExpectBroken(c10d::Work& work) {
  try {
    work.wait();
    ADD_FAILURE() << "works on a broken backend";
  } catch (const c10::DistBackendError& error) {
    const std::string words = error.what_without_backtrace();
    EXPECT_NE(words.find("an earlier operation failed"), std::string::npos) << words;
    EXPECT_NE(words.find("timed out"), std::string::npos) << words;
  }
  EXPECT_TRUE(work.getFuture()->hasError());
}

TEST(MpiBackendErrors, NameTheRanksThatDoNotJoin) {
  if (Size() < 2) return;
  auto backend = MpiBackend::Make(World().state().control().communicator(), {});
  EXPECT_EQ(backend->getError(), c10d::ErrorType::SUCCESS);
  if (Rank() == 0) {
    std::vector<at::Tensor> tensors = {torch::zeros({4})};
    c10d::AllreduceOptions options;
    options.timeout = std::chrono::milliseconds(300);
    auto work = backend->allreduce(tensors, options);
    try {
      work->wait();
      ADD_FAILURE() << "nobody else joined";
    } catch (const c10::DistBackendError& error) {
      const std::string words = error.what_without_backtrace();
      EXPECT_NE(words.find("allreduce (sum, 4 Float) on rank 0"), std::string::npos) << words;
      EXPECT_NE(words.find("timed out"), std::string::npos) << words;
      EXPECT_NE(words.find("rank 1"), std::string::npos) << words;
    }
    // Nothing works on it any more, and that is said at once: by default each of these would wait for half an hour.
    EXPECT_EQ(backend->getError(), c10d::ErrorType::TIMEOUT);
    ExpectBroken(*backend->barrier({}));
    ExpectBroken(*backend->recv(tensors, 1, 0));
    ExpectBroken(*backend->send(tensors, 1, 0));
    ExpectBroken(*backend->recvAnysource(tensors, 0));
  }
  EXPECT_TRUE(World().state().Barrier());
  backend->abort();
  EXPECT_EQ(backend->getError(), Rank() == 0 ? c10d::ErrorType::TIMEOUT : c10d::ErrorType::SUCCESS);
}

TEST(MpiBackendErrors, AMessageThatDoesNotComeBreaksTheBackendToo) {
  if (Size() < 2) return;
  auto backend = MpiBackend::Make(World().state().control().communicator(), {});
  if (Rank() == 0) {
    backend->setTimeout(std::chrono::milliseconds(100));
    std::vector<at::Tensor> tensors = {torch::zeros({4})};
    try {
      backend->recv(tensors, 1, 5)->wait();
      ADD_FAILURE() << "nobody sent anything";
    } catch (const c10::DistBackendError& error) {
      const std::string words = error.what_without_backtrace();
      EXPECT_NE(words.find("recv (4 Float) from rank 1"), std::string::npos) << words;
      EXPECT_NE(words.find("timed out"), std::string::npos) << words;
    }
    EXPECT_EQ(backend->getError(), c10d::ErrorType::TIMEOUT);
    // The receive is still posted: a later message of rank 1 would land in it.
    ExpectBroken(*backend->recv(tensors, 1, 5));
    ExpectBroken(*backend->allreduce(tensors, {}));
  }
  EXPECT_TRUE(World().state().Barrier());
  backend->abort();
}

TEST(MpiBackendErrors, TellSizesThatDiffer) {
  if (Size() < 2) return;
  auto backend = MpiBackend::Make(World().state().control().communicator(), {});
  c10d::AllgatherOptions options;
  options.timeout = std::chrono::milliseconds(2000);
  auto input = torch::zeros({4 + (Rank() == 0 ? 0 : 1)});
  auto output = torch::zeros({input.numel() * Size()});
  EXPECT_THROW(backend->_allgather_base(output, input, options)->wait(), c10::DistBackendError);
  EXPECT_NE(backend->getError(), c10d::ErrorType::SUCCESS);
  EXPECT_TRUE(World().state().Barrier());
  backend->abort();
}

TEST(MpiProcessGroup, ReachesTheBackendThroughC10d) {
  const auto& group = World().process_group();
  EXPECT_EQ(group->getRank(), Rank());
  EXPECT_EQ(group->getSize(), Size());
  std::vector<at::Tensor> tensors = {Values(Rank(), 12, at::kFloat)};
  EXPECT_TRUE(group->allreduce(tensors)->wait());
  ExpectSame(tensors[0], Reduced(ReduceOp::SUM, 12, at::kFloat), "through c10d");
  EXPECT_TRUE(group->barrier()->wait());
}

// Named Slow: a program of its own in CTest, on two ranks, since these need up to 4.4 GB a rank. MPI counts in int, so
// each moves more than that at a time; results lie where inputs lay, to have room.
constexpr std::int64_t kHuge = (std::int64_t{1} << 31) + 77;

// Every byte is `value`: the first is, and each is like the one before it.
void ExpectAll(const at::Tensor& tensor, int value) {
  EXPECT_TRUE(tensor.is_contiguous() && tensor.scalar_type() == at::kChar);
  const auto* bytes = tensor.const_data_ptr<std::int8_t>();
  EXPECT_EQ(bytes[0], value);
  EXPECT_EQ(std::memcmp(bytes, bytes + 1, static_cast<std::size_t>(tensor.numel() - 1)), 0);
}

TEST(SlowMpiBackendTest, GathersMoreThanTwoToThe31Elements) {
  auto output = torch::empty({Size() * kHuge}, at::kChar);
  auto input = output.narrow(0, Rank() * kHuge, kHuge);
  input.fill_(10 + Rank());
  input[kHuge - 1] = 20 + Rank();
  EXPECT_TRUE(World().process_group()->_allgather_base(output, input)->wait());
  for (int rank = 0; rank < Size(); ++rank) {
    const auto part = output.narrow(0, rank * kHuge, kHuge);
    ExpectAll(part.narrow(0, 0, kHuge - 1), 10 + rank);
    EXPECT_EQ(part[kHuge - 1].item<int>(), 20 + rank);
  }
}

TEST(SlowMpiBackendTest, ReducesAndScattersMoreThanTwoToThe31Elements) {
  auto input = torch::empty({Size() * kHuge}, at::kChar);
  for (int rank = 0; rank < Size(); ++rank) input.narrow(0, rank * kHuge, kHuge).fill_(1 + Rank() + 10 * rank);
  input[(Rank() + 1) * kHuge - 1] = 100;  // the last element of what stays here
  auto output = input.narrow(0, Rank() * kHuge, kHuge);
  EXPECT_TRUE(World().process_group()->_reduce_scatter_base(output, input)->wait());
  const int ranks = Size() * (Size() + 1) / 2;
  ExpectAll(output.narrow(0, 0, kHuge - 1), ranks + Size() * 10 * Rank());
  const int others = ranks - (Rank() + 1) + (Size() - 1) * 10 * Rank();
  EXPECT_EQ(output[kHuge - 1].item<std::int8_t>(), static_cast<std::int8_t>(100 + others));
}

TEST(SlowMpiBackendTest, ExchangesMoreThanTwoToThe31Elements) {
  // Rank r sends `kHuge` rows to rank 1 if it is rank 0, else r + p + 1 rows to rank p.
  const auto rows = [](int from, int to) { return from == 0 && to == 1 ? kHuge : std::int64_t{from + to + 1}; };
  std::vector<std::int64_t> sent, received;
  for (int rank = 0; rank < Size(); ++rank) {
    sent.push_back(rows(Rank(), rank));
    received.push_back(rows(rank, Rank()));
  }
  const auto sum = [](const std::vector<std::int64_t>& counts) {
    return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
  };
  auto input = torch::full({sum(sent)}, 30 + Rank(), at::kChar);
  auto output = torch::zeros({sum(received)}, at::kChar);
  EXPECT_TRUE(World().process_group()->alltoall_base(output, input, received, sent)->wait());
  std::int64_t at = 0;
  for (int rank = 0; rank < Size(); ++rank) {
    ExpectAll(output.narrow(0, at, received[rank]), 30 + rank);
    at += received[rank];
  }
}

TEST(SlowMpiBackendTest, SendsMoreThanTwoToThe31Elements) {
  if (Size() < 2) return;
  auto& group = *World().process_group();
  std::vector<at::Tensor> tensors = {torch::full({kHuge}, 50 + Rank(), at::kChar)};
  tensors[0][kHuge - 1] = 60 + Rank();
  if (Rank() == 0) {
    EXPECT_TRUE(group.send(tensors, 1, 3)->wait());
  }
  if (Rank() == 1) {
    EXPECT_TRUE(group.recv(tensors, 0, 3)->wait());
    ExpectAll(tensors[0].narrow(0, 0, kHuge - 1), 50);
    EXPECT_EQ(tensors[0][kHuge - 1].item<int>(), 60);
  }
}

TEST(SlowMpiBackendTest, ReducesAndBroadcastsMoreThanTwoToThe31Elements) {
  const std::int64_t count = kHuge;
  auto tensor = torch::full({count}, Rank() + 1, at::kChar);
  tensor[count - 1] = 10 + Rank();
  std::vector<at::Tensor> tensors = {tensor};
  EXPECT_TRUE(World().process_group()->allreduce(tensors)->wait());
  const int sum = Size() * (Size() + 1) / 2;
  EXPECT_EQ(tensor[0].item<int>(), sum);
  EXPECT_EQ(tensor[count / 2].item<int>(), sum);
  EXPECT_EQ(tensor[count - 2].item<int>(), sum);
  EXPECT_EQ(tensor[count - 1].item<int>(), 9 * Size() + sum);
  tensor.fill_(Rank());
  c10d::BroadcastOptions options;
  options.rootRank = Size() - 1;
  EXPECT_TRUE(World().process_group()->broadcast(tensors, options)->wait());
  ExpectAll(tensor, Size() - 1);
}

}  // namespace
}  // namespace belay::runtime
