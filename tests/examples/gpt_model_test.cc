#include "examples/gpt/model.h"

#include <gtest/gtest.h>

#include <cmath>

#include "examples/gpt/generate.h"

namespace examples {
namespace {

GptConfig Tiny() { return {.depth = 2, .width = 16, .heads = 2, .context = 12, .dropout = 0.5}; }

TEST(GptTest, KnowsNothingAtFirst) {
  torch::manual_seed(1);
  Gpt model(Tiny());
  model->eval();
  const double loss = model->Loss(torch::randint(0, 256, {4, 13}, torch::kInt64)).item<double>();
  EXPECT_NEAR(loss, std::log(256.0), 0.1);
}

TEST(GptTest, NoPositionSeesALaterByte) {
  torch::manual_seed(2);
  Gpt model(Tiny());
  model->eval();
  auto tokens = torch::randint(0, 256, {1, 12}, torch::kInt64);
  const auto before = model->forward(tokens);
  tokens[0][7] = (tokens[0][7].item<std::int64_t>() + 1) % 256;
  const auto after = model->forward(tokens);
  EXPECT_TRUE(torch::equal(before.narrow(1, 0, 7), after.narrow(1, 0, 7)));
  EXPECT_FALSE(torch::allclose(before.narrow(1, 7, 5), after.narrow(1, 7, 5)));
}

TEST(GptTest, DropoutFollowsTheSeedAndStopsInEvaluation) {
  torch::manual_seed(3);
  Gpt model(Tiny());
  const auto batch = torch::randint(0, 256, {2, 13}, torch::kInt64);
  const auto loss = [&](std::uint64_t seed) {
    torch::manual_seed(seed);
    return model->Loss(batch).item<double>();
  };
  EXPECT_EQ(loss(7), loss(7));
  EXPECT_NE(loss(7), loss(8));
  model->eval();
  EXPECT_EQ(loss(7), loss(8));
}

TEST(GptTest, LearnsATextByHeart) {
  torch::manual_seed(4);
  auto config = Tiny();
  config.dropout = 0.0;
  Gpt model(config);
  torch::optim::AdamW optimizer(ParameterGroups(*model, 0.1), torch::optim::AdamWOptions());
  for (auto& group : optimizer.param_groups()) group.options().set_lr(1e-2);
  const auto batch = torch::randint(0, 256, {1, 13}, torch::kInt64);
  for (int step = 0; step < 100; ++step) {
    optimizer.zero_grad();
    model->Loss(batch).backward();
    optimizer.step();
  }
  EXPECT_LT(model->Loss(batch).item<double>(), 0.1);
}

TEST(GptTest, OnlyMatricesDecay) {
  Gpt model(Tiny());
  const auto groups = ParameterGroups(*model, 0.25);
  ASSERT_EQ(groups.size(), 2U);
  for (const auto& parameter : groups[0].params()) EXPECT_GE(parameter.dim(), 2);
  for (const auto& parameter : groups[1].params()) EXPECT_LT(parameter.dim(), 2);
  EXPECT_EQ(groups[0].params().size() + groups[1].params().size(), model->parameters().size());
  EXPECT_EQ(static_cast<const torch::optim::AdamWOptions&>(groups[0].options()).weight_decay(), 0.25);
  EXPECT_EQ(static_cast<const torch::optim::AdamWOptions&>(groups[1].options()).weight_decay(), 0.0);
}

TEST(GenerateTest, LeavesTrainingsRandomNumbersAndModeAlone) {
  torch::manual_seed(5);
  Gpt model(Tiny());
  torch::manual_seed(6);
  const auto expected = torch::rand({4});
  torch::manual_seed(6);
  const auto text = Generate(model, torch::kCPU, {.bytes = 20, .prompt = "ab", .temperature = 1.0, .seed = 9});
  EXPECT_TRUE(torch::equal(torch::rand({4}), expected));
  EXPECT_TRUE(model->is_training());
  EXPECT_EQ(text.size(), 22U);
  EXPECT_EQ(text.substr(0, 2), "ab");
  EXPECT_EQ(Generate(model, torch::kCPU, {.bytes = 20, .prompt = "ab", .temperature = 1.0, .seed = 9}), text);
}

}  // namespace
}  // namespace examples
