#include "runtime/state/capture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "runtime/state/state_set.h"

namespace belay::runtime {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> Names(const std::vector<StateTensor>& tensors) {
  std::vector<std::string> names;
  for (const auto& tensor : tensors) names.push_back(tensor.FullName());
  return names;
}

StateSet SetOf(torch::nn::Module& module, std::int32_t rank = 0) {
  StateSet state(base::Rank(rank), at::kCPU);
  EXPECT_TRUE(state.AddModule("model", module));
  return state;
}

std::unique_ptr<Capture> CaptureOf(const StateSet& state) {
  auto tensors = state.Describe();
  EXPECT_TRUE(tensors) << tensors.error().Text();
  auto capture = Capture::Make(std::move(*tensors), state.rank());
  EXPECT_TRUE(capture) << capture.error().Text();
  return std::move(*capture);
}

// All bytes of `name`, as a plan of one whole entry would take them.
std::string BytesOf(const Capture& capture, const std::string& name) {
  for (const auto& part : capture.layout().parts) {
    for (const auto& tensor : part.tensors) {
      if (part.part + "." + tensor.name != name) continue;
      checkpoint::ShardPlan plan;
      std::uint64_t bytes = checkpoint::DTypeBytes(tensor.dtype);
      for (const auto length : tensor.box.lengths) bytes *= static_cast<std::uint64_t>(length);
      plan.entries.push_back({.name = name,
                              .dtype = tensor.dtype,
                              .global_shape = tensor.global_shape,
                              .box = tensor.box,
                              .bytes = bytes});
      const auto source = capture.Sources({plan})[0][0];
      return {reinterpret_cast<const char*>(source.data), source.bytes};
    }
  }
  ADD_FAILURE() << "no " << name;
  return {};
}

TEST(CaptureTest, TakesTiedParametersOnceAndBuffersOfRankZeroOnly) {
  struct Tied : torch::nn::Module {
    Tied() {
      weight = register_parameter("a", torch::rand({3, 2}));
      register_parameter("b", weight);
      register_buffer("mean", torch::zeros({3}));
    }
    at::Tensor weight;
  } module;
  const auto of_main = SetOf(module, 0);
  EXPECT_THAT(Names(*of_main.Describe()), ElementsAre("model.a", "model.mean"));
  EXPECT_EQ(CaptureOf(of_main)->layout().parts[0].tensors.size(), 2U);
  const auto of_other = SetOf(module, 1);
  EXPECT_THAT(Names(*of_other.Describe()), ElementsAre("model.a", "model.mean")) << "still restored everywhere";
  EXPECT_EQ(CaptureOf(of_other)->layout().parts[0].tensors.size(), 1U);
}

TEST(CaptureTest, ReadsParametersInPlaceAndBuffersFromTheirCopy) {
  torch::nn::BatchNorm1d module(4);
  const auto state = SetOf(*module);
  const auto capture = CaptureOf(state);
  capture->CopyEager();
  const std::string mean = BytesOf(*capture, "model.running_mean");
  const std::string weight = BytesOf(*capture, "model.weight");
  {
    torch::NoGradGuard no_grad;
    module->running_mean.fill_(7);
    module->weight.fill_(7);
  }
  EXPECT_EQ(BytesOf(*capture, "model.running_mean"), mean);
  EXPECT_NE(BytesOf(*capture, "model.weight"), weight);
}

TEST(CaptureTest, APieceBeginsAtItsFirstRow) {
  torch::nn::Linear module(torch::nn::LinearOptions(3, 8).bias(false));
  const auto capture = CaptureOf(SetOf(*module));
  checkpoint::ShardPlan plan;
  plan.entries.push_back({.name = "model.weight", .global_shape = {8, 3}, .box = {{5, 0}, {2, 3}}, .bytes = 24});
  const auto source = capture->Sources({plan})[0][0];
  EXPECT_EQ(source.data, static_cast<const std::byte*>(module->weight.data_ptr()) + 5 * 3 * 4);
}

TEST(CaptureTest, NonContiguousParametersAreSavedInRowOrder) {
  struct Transposed : torch::nn::Module {
    Transposed() { register_parameter("w", torch::arange(6, torch::kFloat).reshape({2, 3}).t()); }
  } module;
  const auto capture = CaptureOf(SetOf(module));
  capture->CopyEager();
  const float expected[] = {0, 3, 1, 4, 2, 5};
  EXPECT_EQ(BytesOf(*capture, "model.w"), std::string(reinterpret_cast<const char*>(expected), sizeof expected));
}

TEST(CaptureTest, ManyNonContiguousBytesAreRefusedByName) {
  struct Wide : torch::nn::Module {
    // Strides of 2 over fresh zero pages: large without costing memory.
    Wide() {
      register_parameter("wide", torch::empty({(std::int64_t)(Capture::kSideBytesMax / 4) + 1, 2}).select(1, 0));
    }
  } module;
  const auto state = SetOf(module);
  const auto capture = Capture::Make(*state.Describe(), base::Rank(0));
  ASSERT_FALSE(capture);
  EXPECT_EQ(capture.error().code, base::Code::kUnsupported);
  EXPECT_THAT(capture.error().Text(), HasSubstr("model.wide is not contiguous"));
}

TEST(CaptureTest, TellsWhatItsSideBuffersTake) {
  struct Queue : torch::nn::Module {
    Queue() {
      register_parameter("weight", torch::zeros({100}));
      register_buffer("mean", torch::zeros({5}));
      register_buffer("queue", torch::zeros({7, 10}));
    }
  } module;
  const auto capture = CaptureOf(SetOf(module));
  EXPECT_EQ(capture->side().bytes, 4U * 75);
  EXPECT_EQ(capture->side().largest, "model.queue");
  EXPECT_EQ(capture->side().largest_bytes, 4U * 70);
}

TEST(CaptureTest, WitnessSeesAnyWriteOfTheUpdate) {
  torch::nn::Linear module(8, 8);
  const auto state = SetOf(*module);
  const auto capture = CaptureOf(state);
  const auto unchanged = capture->Witness();
  EXPECT_TRUE(unchanged());
  {
    torch::NoGradGuard no_grad;
    module->bias.add_(1);
  }
  EXPECT_FALSE(unchanged());
}

TEST(CaptureTest, WitnessSeesWritesPastTheVersionCounter) {
  torch::nn::Linear module(8, 8);
  const auto capture = CaptureOf(SetOf(*module));
  const auto unchanged = capture->Witness();
  const auto version = module->weight._version();
  module->weight.data().add_(1);  // as SGD does
  EXPECT_EQ(module->weight._version(), version) << "then the sample of bytes is not needed any more";
  EXPECT_FALSE(unchanged());
}

TEST(CaptureTest, FrozenParametersAreApartAndHaveAWitnessOfTheirOwn) {
  torch::nn::Sequential module(torch::nn::Linear(8, 8), torch::nn::Linear(8, 2));
  module[0]->as<torch::nn::Linear>()->weight.set_requires_grad(false);
  const auto state = SetOf(*module);
  const auto capture = CaptureOf(state);
  const auto& parts = capture->layout().parts;
  ASSERT_EQ(parts.size(), 2U);
  const auto& frozen = parts[0].frozen ? parts[0] : parts[1];
  ASSERT_EQ(frozen.tensors.size(), 1U);
  EXPECT_EQ(frozen.part, "model");
  EXPECT_EQ(frozen.tensors[0].name, "0.weight");

  const auto unchanged = capture->FrozenWitness();
  {
    torch::NoGradGuard no_grad;
    module[1]->as<torch::nn::Linear>()->weight.add_(1);
  }
  EXPECT_TRUE(unchanged()) << "what is trained may change";
  {
    torch::NoGradGuard no_grad;
    module[0]->as<torch::nn::Linear>()->weight.add_(1);
  }
  EXPECT_FALSE(unchanged());
  module[0]->as<torch::nn::Linear>()->weight.set_requires_grad(true);
  EXPECT_FALSE(capture->Matches(*state.Describe())) << "thawed: another layout";
}

TEST(CaptureTest, WitnessLetsBuffersChange) {
  torch::nn::BatchNorm1d module(4);
  const auto capture = CaptureOf(SetOf(*module));
  const auto unchanged = capture->Witness();
  module->running_mean.fill_(3);
  EXPECT_TRUE(unchanged());
}

TEST(CaptureTest, AReplacedTensorNoLongerMatchesAndItsOldMemoryStays) {
  torch::nn::Linear module(4, 4);
  const auto state = SetOf(*module);
  const auto capture = CaptureOf(state);
  EXPECT_TRUE(capture->Matches(*state.Describe()));
  const std::string before = BytesOf(*capture, "model.weight");
  module->weight.set_data(torch::ones({4, 4}));
  EXPECT_FALSE(capture->Matches(*state.Describe()));
  EXPECT_EQ(BytesOf(*capture, "model.weight"), before);
}

TEST(StateSetTest, RefusesBadDoubledAndForeignThings) {
  torch::nn::Linear module(2, 2);
  StateSet state(base::Rank(0), at::kCPU);
  EXPECT_FALSE(state.AddModule("Model", *module));
  EXPECT_FALSE(state.AddModule("", *module));
  EXPECT_TRUE(state.AddModule("model", *module));
  const auto doubled = state.AddModule("model", *module);
  ASSERT_FALSE(doubled);
  EXPECT_THAT(doubled.error().Text(), HasSubstr("added twice"));
  torch::Tensor sparse = torch::eye(3).to_sparse();
  EXPECT_FALSE(state.AddTensor("sparse", sparse, false));
  torch::nn::Linear stranger(2, 2);
  torch::optim::SGD optimizer(stranger->parameters(), 0.1);
  const auto foreign = state.AddOptimizer("optimizer", optimizer);
  ASSERT_FALSE(foreign);
  EXPECT_THAT(foreign.error().Text(), HasSubstr("add the module first"));
}

TEST(StateSetTest, PerRankTensorsCarryTheRankInTheirName) {
  torch::Tensor memory = torch::zeros({4});
  StateSet state(base::Rank(3), at::kCPU);
  ASSERT_TRUE(state.AddTensor("memory", memory, true));
  EXPECT_THAT(Names(*state.Describe()), ElementsAre("memory.rank-00003"));
}

TEST(StateSetTest, ATensorThatCouldNeverBeLoadedIsRefused) {
  struct Model : torch::nn::Module {
    Model() {
      w = register_parameter("w", torch::ones({4}));
      mask = register_buffer("mask", torch::ones({1}).expand({8}));
    }
    at::Tensor w, mask;
  } model;
  const StateSet state = SetOf(model);
  const auto described = state.Describe();
  ASSERT_FALSE(described);
  EXPECT_EQ(described.error().code, base::Code::kInvalidArgument);
  EXPECT_THAT(described.error().Text(), HasSubstr("model.mask has several elements at one address"));
  model.mask.set_data(torch::ones({1}).expand({8}).clone());
  EXPECT_TRUE(state.Describe());
  at::Tensor once = torch::ones({1, 4}).expand({1, 4});
  StateSet other(base::Rank(0), at::kCPU);
  EXPECT_TRUE(other.AddTensor("once", once, false)) << "expanded to what it was";
}

}  // namespace
}  // namespace belay::runtime
