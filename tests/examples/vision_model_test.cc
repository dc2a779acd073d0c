#include "examples/vision/model.h"

#include <gtest/gtest.h>

namespace examples {
namespace {

TEST(ResNetTest, NamesTenClassesAtAnyDepth) {
  for (const std::int64_t blocks : {1, 2}) {
    ResNet model(ResNetConfig{.blocks = blocks, .width = 4});
    EXPECT_EQ(model->forward(torch::zeros({2, 1, 28, 28})).sizes(), torch::IntArrayRef({2, 10}));
  }
}

TEST(ResNetTest, BatchNormStatisticsMoveInTrainingOnly) {
  torch::manual_seed(1);
  ResNet model(ResNetConfig{.blocks = 1, .width = 4});
  const auto snapshot = [&] {
    std::vector<torch::Tensor> values;
    for (const auto& buffer : model->buffers()) values.push_back(buffer.clone());
    return values;
  };
  const auto before = snapshot();
  ASSERT_FALSE(before.empty());
  model->eval();
  model->forward(torch::rand({4, 1, 28, 28}));
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(torch::equal(before[i], model->buffers()[i]));
  model->train();
  model->forward(torch::rand({4, 1, 28, 28}));
  EXPECT_FALSE(torch::equal(before[0], model->buffers()[0]));
}

TEST(ResNetTest, LearnsABatchByHeart) {
  torch::manual_seed(2);
  ResNet model(ResNetConfig{.blocks = 1, .width = 4});
  torch::optim::SGD optimizer(model->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  const auto images = torch::randn({10, 1, 28, 28});
  const auto labels = torch::arange(10);
  torch::Tensor loss;
  for (int step = 0; step < 60; ++step) {
    optimizer.zero_grad();
    loss = torch::cross_entropy_loss(model->forward(images), labels);
    loss.backward();
    optimizer.step();
  }
  EXPECT_LT(loss.item<double>(), 0.3);
}

}  // namespace
}  // namespace examples
