#include "runtime/state/optimizers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace belay::runtime {
namespace {

using testing::HasSubstr;
using torch::optim::Optimizer;
using Params = std::vector<at::Tensor>;
using Factory = std::function<std::unique_ptr<Optimizer>(const Params&)>;

struct Case {
  const char* name;
  Factory make;
};

template <typename Class, typename Options>
Factory With(Options options) {
  return [options](const Params& params) { return std::make_unique<Class>(params, options); };
}

std::vector<Case> Cases() {
  using namespace torch::optim;  // NOLINT: class names
  return {
      {"adam", With<Adam>(AdamOptions(0.01))},
      {"adam_amsgrad", With<Adam>(AdamOptions(0.01).amsgrad(true).weight_decay(0.1))},
      {"adamw", With<AdamW>(AdamWOptions(0.01))},
      {"adamw_amsgrad", With<AdamW>(AdamWOptions(0.01).amsgrad(true))},
      {"sgd", With<SGD>(SGDOptions(0.1))},
      {"sgd_momentum", With<SGD>(SGDOptions(0.1).momentum(0.9).dampening(0.3).weight_decay(0.01))},
      {"rmsprop", With<RMSprop>(RMSpropOptions(0.01))},
      {"rmsprop_all", With<RMSprop>(RMSpropOptions(0.01).momentum(0.5).centered(true))},
      {"adagrad", With<Adagrad>(AdagradOptions(0.05).lr_decay(0.01).initial_accumulator_value(0.5))},
  };
}

struct Program {
  explicit Program(const Factory& make) {
    for (int i = 0; i < 3; ++i) params.push_back(torch::full({4, 3}, 0.1 * (i + 1)).set_requires_grad(true));
    optimizer = make(params);
    for (std::size_t i = 0; i < params.size(); ++i)
      names.emplace(params[i].unsafeGetTensorImpl(), "p" + std::to_string(i));
  }
  void Step(int k) {
    for (std::size_t i = 0; i + 1 < params.size(); ++i) {  // the last one never gets a gradient
      params[i].mutable_grad() =
          torch::arange(12, torch::kFloat).reshape({4, 3}) * (0.01 * (k + 1)) - 0.03 * static_cast<double>(i);
    }
    optimizer->step();
  }
  Params params;
  std::unique_ptr<Optimizer> optimizer;
  ParameterNames names;
};

void Transfer(Program& from, Program& to) {
  torch::NoGradGuard no_grad;
  const auto record = SaveOptimizerRecord(*from.optimizer, from.names);
  const auto status = LoadOptimizerRecord(*to.optimizer, to.names, record);
  ASSERT_TRUE(status) << status.error().Text();
  const auto source = OptimizerTensors(*from.optimizer, from.names);
  auto target = OptimizerTensors(*to.optimizer, to.names);
  ASSERT_EQ(source.size(), target.size());
  for (std::size_t i = 0; i < source.size(); ++i) {
    ASSERT_EQ(source[i].name, target[i].name);
    target[i].tensor.copy_(source[i].tensor);
  }
  for (std::size_t i = 0; i < from.params.size(); ++i) to.params[i].copy_(from.params[i]);
}

void ExpectSame(Program& a, Program& b) {
  for (std::size_t i = 0; i < a.params.size(); ++i) EXPECT_TRUE(a.params[i].equal(b.params[i])) << "parameter " << i;
  EXPECT_EQ(SaveOptimizerRecord(*a.optimizer, a.names), SaveOptimizerRecord(*b.optimizer, b.names));
}

TEST(OptimizersTest, EveryClassGoesOnBitForBitFromItsSavedState) {
  for (const Case& one : Cases()) {
    SCOPED_TRACE(one.name);
    Program whole(one.make), first(one.make), second(one.make);
    for (int k = 0; k < 7; ++k) whole.Step(k);
    for (int k = 0; k < 3; ++k) first.Step(k);
    Transfer(first, second);
    for (int k = 3; k < 7; ++k) second.Step(k);
    ExpectSame(whole, second);
  }
}

TEST(OptimizersTest, LoadingReplacesStateThatIsThereAlready) {
  for (const Case& one : Cases()) {
    SCOPED_TRACE(one.name);
    Program fresh(one.make), used(one.make), whole(one.make);
    for (int k = 0; k < 5; ++k) used.Step(k + 40);
    Transfer(fresh, used);
    for (int k = 0; k < 4; ++k) {
      used.Step(k);
      whole.Step(k);
    }
    ExpectSame(whole, used);
  }
}

TEST(OptimizersTest, MaterialisingStateEarlyChangesNothing) {
  for (const Case& one : Cases()) {
    SCOPED_TRACE(one.name);
    Program plain(one.make), early(one.make);
    MaterialiseState(*early.optimizer);
    for (int k = 0; k < 4; ++k) {
      plain.Step(k);
      early.Step(k);
    }
    for (std::size_t i = 0; i < plain.params.size(); ++i) EXPECT_TRUE(plain.params[i].equal(early.params[i])) << i;
  }
}

TEST(OptimizersTest, AdamsLayoutIsTheSameBeforeAndAfterTheFirstStep) {
  Program program(Cases()[2].make);
  program.params.pop_back();  // every parameter gets a gradient below
  MaterialiseState(*program.optimizer);
  const auto before = OptimizerTensors(*program.optimizer, program.names).size();
  EXPECT_EQ(before, 6U);
  program.Step(0);
  EXPECT_EQ(OptimizerTensors(*program.optimizer, program.names).size(), before);
}

TEST(OptimizersTest, FrozenParametersGetNoState) {
  Program program(Cases()[0].make);
  program.params[1].set_requires_grad(false);
  MaterialiseState(*program.optimizer);
  EXPECT_EQ(OptimizerTensors(*program.optimizer, program.names).size(), 4U);
}

TEST(OptimizersTest, OptionsComeBackExactly) {
  Program saved(
      With<torch::optim::AdamW>(torch::optim::AdamWOptions(0.1 / 3).betas({0.87654321, 0.99912345}).eps(1e-11)));
  Program loaded(Cases()[2].make);
  Transfer(saved, loaded);
  const auto& options = static_cast<torch::optim::AdamWOptions&>(loaded.optimizer->param_groups()[0].options());
  EXPECT_EQ(options.lr(), 0.1 / 3);
  EXPECT_EQ(std::get<0>(options.betas()), 0.87654321);
  EXPECT_EQ(options.eps(), 1e-11);
}

TEST(OptimizersTest, AnotherClassIsNamed) {
  Program adam(Cases()[0].make), sgd(Cases()[4].make);
  const auto status = LoadOptimizerRecord(*sgd.optimizer, sgd.names, SaveOptimizerRecord(*adam.optimizer, adam.names));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, base::Code::kLayoutMismatch);
  EXPECT_THAT(status.error().Text(), HasSubstr("saved by Adam, the program has SGD"));
}

TEST(OptimizersTest, AnotherSetOfParametersIsNamed) {
  Program a(Cases()[0].make), b(Cases()[0].make);
  b.names[b.params[1].unsafeGetTensorImpl()] = "other";
  const auto status = LoadOptimizerRecord(*b.optimizer, b.names, SaveOptimizerRecord(*a.optimizer, a.names));
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().Text(), HasSubstr("was saved as p1, the program has other"));
}

TEST(OptimizersTest, ARecordThatIsNoRecordIsCorrupt) {
  Program program(Cases()[0].make);
  for (const char* text : {"", "{", "[]", "{\"class\":\"Adam\"}", "{\"class\":\"Adam\",\"groups\":[{}]}"}) {
    const auto status = LoadOptimizerRecord(*program.optimizer, program.names, text);
    ASSERT_FALSE(status) << text;
    EXPECT_EQ(status.error().code, base::Code::kCorrupt) << text;
  }
}

TEST(OptimizersTest, AParameterOfNoModuleIsRefused) {
  Program program(Cases()[0].make);
  program.names.erase(program.params[2].unsafeGetTensorImpl());
  const auto status = CheckOptimizer(*program.optimizer, program.names);
  ASSERT_FALSE(status);
  EXPECT_THAT(status.error().Text(), HasSubstr("parameter 2"));
}

}  // namespace
}  // namespace belay::runtime
