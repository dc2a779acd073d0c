#include "runtime/state/restore.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "checkpoint/format/boxes.h"
#include "runtime/state/generators.h"

namespace belay::runtime {
namespace {

using testing::HasSubstr;
using testing::Not;

// A checkpoint in memory: what `state` is now, saved by `world_size` ranks that were all like it.
class FakeRestorer final : public checkpoint::Restorer {
 public:
  FakeRestorer(const StateSet& state, std::int32_t world_size) {
    manifest_.world_size = world_size;
    manifest_.step = base::Step(12);
    auto described = state.Describe();
    for (const StateTensor& tensor : *described) {
      const at::Tensor whole = tensor.tensor.contiguous();
      tensors_[tensor.FullName()] = {*ToDType(whole.scalar_type()), whole.sizes().vec()};
      bytes_[tensor.FullName()] = {static_cast<const char*>(whole.const_data_ptr()), whole.nbytes()};
    }
    records_ = *state.SaveRecords();
  }
  const checkpoint::Manifest& manifest() const override { return manifest_; }
  const std::map<std::string, SavedTensor>& tensors() const override { return tensors_; }
  base::Result<checkpoint::RestoreStatistics> Load(const std::vector<checkpoint::Target>& targets, int) override {
    checkpoint::RestoreStatistics statistics;
    for (const auto& target : targets) {
      const std::string& bytes = bytes_.at(target.name);
      for (const auto& run : checkpoint::RunsBetween(checkpoint::WholeBox(target.global_shape), target.box,
                                                     checkpoint::DTypeBytes(target.dtype))) {
        std::memcpy(target.data + run.destination, bytes.data() + run.source, run.bytes);
        statistics.bytes_wanted += run.bytes;
      }
    }
    loads_.push_back(statistics.bytes_wanted);
    return statistics;
  }
  base::Result<checkpoint::Records> LoadRecords(base::Rank rank) override {
    asked_ranks_.push_back(rank.value());
    return records_;
  }
  std::vector<base::Error> Verify(int, const BeforeRead&) override { return {}; }
  std::vector<base::Error> Problems() const override { return {}; }

  checkpoint::Manifest manifest_;
  std::map<std::string, SavedTensor> tensors_;
  std::map<std::string, std::string> bytes_;
  checkpoint::Records records_;
  std::vector<std::int32_t> asked_ranks_;
  std::vector<std::uint64_t> loads_;  // bytes asked for at once
};

struct Program {
  explicit Program(std::int32_t rank = 0, int width = 4)
      : model(torch::nn::Linear(3, width), torch::nn::BatchNorm1d(width)),
        optimizer(model->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9)),
        state(base::Rank(rank), at::kCPU) {
    EXPECT_TRUE(state.AddModule("model", *model));
    EXPECT_TRUE(state.AddOptimizer("optimizer", optimizer));
    EXPECT_TRUE(state.AddRecord(
        "note", {.save = [this] { return note; }, .load = [this](const std::string& text) { note = text; }}, false));
  }
  void Step() {
    optimizer.zero_grad();
    model->forward(torch::rand({8, 3})).square().sum().backward();
    optimizer.step();
  }
  torch::nn::Sequential model;
  torch::optim::SGD optimizer;
  std::string note = "fresh";
  StateSet state;
};

TEST(RestoreTest, BringsBackParametersBuffersMomentumRecordsAndRandomNumbers) {
  torch::manual_seed(1);
  Program saved;
  saved.Step();
  saved.note = "after one step";
  FakeRestorer restorer(saved.state, 1);
  saved.Step();

  torch::manual_seed(99);
  Program loaded;
  ASSERT_TRUE(RestoreState(loaded.state, restorer, {}));
  EXPECT_EQ(loaded.note, "after one step");
  loaded.Step();  // draws the same random batch
  const auto a = *saved.state.Describe();
  const auto b = *loaded.state.Describe();
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(a[i].tensor.equal(b[i].tensor)) << a[i].FullName();
}

TEST(RestoreTest, NonContiguousTensorsAreLoadedInRowOrder) {
  struct Transposed : torch::nn::Module {
    explicit Transposed(at::Tensor start) : w(register_parameter("w", std::move(start))) {}
    at::Tensor w;
  };
  Transposed saved(torch::arange(6, torch::kFloat).reshape({2, 3}).t()), loaded(torch::zeros({2, 3}).t());
  StateSet a(base::Rank(0), at::kCPU), b(base::Rank(0), at::kCPU);
  ASSERT_TRUE(a.AddModule("model", saved));
  ASSERT_TRUE(b.AddModule("model", loaded));
  FakeRestorer restorer(a, 1);
  ASSERT_TRUE(RestoreState(b, restorer, {}));
  EXPECT_TRUE(saved.w.equal(loaded.w));
  EXPECT_FALSE(loaded.w.is_contiguous());
}

TEST(RestoreTest, TensorsLargerThanTheBounceBufferComeInPieces) {
  struct Model : torch::nn::Module {
    explicit Model(bool fill) {
      const auto make = [&](const char* name, std::vector<std::int64_t> shape, at::ScalarType type) {
        shape.push_back(2);  // every other element: nothing is contiguous
        const auto whole = torch::zeros(shape, type);
        if (fill) whole.copy_(torch::arange(whole.numel()).reshape(shape));
        register_buffer(name, whole.select(-1, 0));
      };
      make("small", {2, 3}, at::kFloat);
      make("rows", {100, 7}, at::kFloat);   // cut into runs of rows
      make("wide", {2, 500}, at::kDouble);  // each row is cut
      make("flat", {1, 600}, at::kShort);   // one row
      make("deep", {7, 6, 5}, at::kBFloat16);
      make("vector", {4}, at::kLong);
    }
  } saved(true), loaded(false);
  StateSet a(base::Rank(0), at::kCPU), b(base::Rank(0), at::kCPU);
  ASSERT_TRUE(a.AddModule("model", saved));
  ASSERT_TRUE(b.AddModule("model", loaded));
  for (const std::uint64_t limit : {1000U, 64U, 16U, 1000000U}) {
    SCOPED_TRACE(limit);
    for (auto& buffer : loaded.buffers()) buffer.zero_();
    FakeRestorer restorer(a, 1);
    const auto restored = RestoreState(b, restorer, {.bounce_bytes = limit});
    ASSERT_TRUE(restored) << restored.error().Text();
    for (std::size_t i = 0; i < saved.buffers().size(); ++i) {
      EXPECT_TRUE(saved.buffers()[i].equal(loaded.buffers()[i])) << saved.named_buffers().pairs()[i].first;
    }
    for (const std::uint64_t bytes : restorer.loads_) EXPECT_LE(bytes, limit);
    if (limit == 1000000) {
      EXPECT_EQ(restorer.loads_.size(), 2U) << "one for what is read in place, one for all the rest";
    }
  }
  FakeRestorer restorer(a, 1);
  const auto refused = RestoreState(b, restorer, {.bounce_bytes = 7});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().Text(), HasSubstr("holds no element of model.wide"));
}

TEST(RestoreTest, NamesEveryTensorThatDiffers) {
  Program saved(0, 4), loaded(0, 5);
  FakeRestorer restorer(saved.state, 1);
  const auto status = RestoreState(loaded.state, restorer, {});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::Code::kLayoutMismatch);
  EXPECT_THAT(status.error().Text(), HasSubstr("model.0.weight is [4, 3] F32 there and [5, 3] F32 here"));
  EXPECT_THAT(status.error().Text(), HasSubstr("more"));
}

TEST(RestoreTest, NamesMissingAndSurplusTensorsAndOtherTypes) {
  Program saved, loaded;
  FakeRestorer restorer(saved.state, 1);
  restorer.tensors_["model.old"] = {checkpoint::DType::kF32, {2}};
  restorer.tensors_.erase("model.0.bias");
  restorer.tensors_["model.1.weight"].dtype = checkpoint::DType::kF64;
  const auto status = RestoreState(loaded.state, restorer, {});
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().Text(), HasSubstr("model.0.bias is not in it"));
  EXPECT_THAT(status.error().Text(), HasSubstr("model.old is in it but not in the program"));
  EXPECT_THAT(status.error().Text(), HasSubstr("model.1.weight is [4] F64 there and [4] F32 here"));
}

TEST(RestoreTest, NamesRecordsAndPerRankTensorsThatTheProgramForgot) {
  torch::Tensor memory = torch::zeros({4});
  Program saved(1), loaded(1), other(0);
  ASSERT_TRUE(saved.state.AddTensor("memory", memory, true));
  ASSERT_TRUE(saved.state.AddRecord("sampler", {.save = [] { return "17"; }, .load = [](const std::string&) {}},
                                    /*shared=*/true));
  FakeRestorer restorer(saved.state, 2);
  const auto status = RestoreState(loaded.state, restorer, {.world_size = 2});
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::Code::kLayoutMismatch);
  EXPECT_THAT(status.error().Text(), HasSubstr("memory.rank-00001 is in it but not in the program"));
  EXPECT_THAT(status.error().Text(), HasSubstr("the record sampler is in it but not in the program"));
  EXPECT_THAT(status.error().Text(), Not(HasSubstr("belay.rng")));

  restorer.records_.erase("sampler");
  EXPECT_TRUE(RestoreState(other.state, restorer, {.world_size = 2})) << "rank 1's memory is not rank 0's business";
}

TEST(RestoreTest, AnotherWorldSizeMayLeaveOutRecordsAndPerRankTensors) {
  torch::Tensor memory = torch::zeros({4});
  Program saved(1), loaded(1);
  ASSERT_TRUE(saved.state.AddTensor("memory", memory, true));
  ASSERT_TRUE(saved.state.AddRecord("sampler", {.save = [] { return "17"; }, .load = [](const std::string&) {}},
                                    /*shared=*/true));
  FakeRestorer restorer(saved.state, 2);
  EXPECT_TRUE(RestoreState(loaded.state, restorer, {.world_size = 3}));
}

TEST(RestoreTest, AMissingRecordIsNamed) {
  Program saved, loaded;
  FakeRestorer restorer(saved.state, 1);
  restorer.records_.erase("note");
  const auto status = RestoreState(loaded.state, restorer, {});
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().Text(), HasSubstr("no record called note"));
}

TEST(RestoreTest, ALoaderThatThrowsIsAnErrorWithItsWords) {
  Program saved;
  StateSet state(base::Rank(0), at::kCPU);
  ASSERT_TRUE(state.AddRecord(
      "note", {.save = [] { return ""; }, .load = [](const std::string&) { throw std::runtime_error("not mine"); }},
      false));
  FakeRestorer restorer(state, 1);
  const auto status = RestoreState(state, restorer, {});
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().Text(), HasSubstr("loading note failed: not mine"));
}

TEST(RestoreTest, AnotherWorldSizeDerivesRandomNumbersPerRankAndReusesRecords) {
  torch::manual_seed(5);
  Program saved;
  FakeRestorer restorer(saved.state, 2);
  std::vector<at::Tensor> draws;
  for (const int rank : {0, 1, 2, 3, 3}) {
    torch::manual_seed(static_cast<std::uint64_t>(1000 + rank));
    Program loaded(rank);
    restorer.asked_ranks_.clear();
    ASSERT_TRUE(RestoreState(loaded.state, restorer, {.world_size = 4}));
    draws.push_back(torch::rand({4}));
    EXPECT_EQ(restorer.asked_ranks_.back(), rank % 2);
  }
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < i; ++j) EXPECT_FALSE(draws[i].equal(draws[j])) << i << " and " << j;
  }
  EXPECT_TRUE(draws[3].equal(draws[4])) << "the rule depends on nothing but seed, step and rank";
}

TEST(GeneratorsTest, RefusesBytesThatAreNoState) {
  auto records = SaveGenerators(at::kCPU);
  records["belay.rng.cpu"] = "short";
  const auto status = LoadGenerators(at::kCPU, records);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::Code::kCorrupt);
}

}  // namespace
}  // namespace belay::runtime
