#include "runtime/checkpointer/backward_hook.h"

#include <gtest/gtest.h>

namespace belay::runtime {
namespace {

TEST(BackwardHookTest, CallsOnceAtTheEndOfEachBackwardWhenAllGradientsAreThere) {
  torch::nn::Linear a(3, 3), b(3, 3);
  int calls = 0;
  bool complete = true;
  BackwardHook hook([&] {
    ++calls;
    for (const auto& p : {a->weight, a->bias, b->weight, b->bias}) complete = complete && p.grad().defined();
  });
  hook.Watch({a->weight, a->bias, b->weight, b->bias});
  hook.Watch({a->weight});
  for (int pass = 1; pass <= 3; ++pass) {
    b(a(torch::rand({2, 3}))).sum().backward();
    EXPECT_EQ(calls, pass);
  }
  EXPECT_TRUE(complete);
}

TEST(BackwardHookTest, CallsAlsoWhenOnlySomeParametersTakePart) {
  torch::nn::Linear used(3, 3), unused(3, 3);
  int calls = 0;
  BackwardHook hook([&] { ++calls; });
  hook.Watch({used->weight, unused->weight});
  used(torch::rand({2, 3})).sum().backward();
  EXPECT_EQ(calls, 1);
}

TEST(BackwardHookTest, CallsAlsoForGradThatAccumulatesNothing) {
  torch::nn::Linear module(3, 3);
  int calls = 0;
  BackwardHook hook([&] { ++calls; });
  hook.Watch(module->parameters());
  const auto gradients = torch::autograd::grad({module(torch::rand({2, 3})).sum()}, module->parameters());
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(gradients.size(), 2U);
  EXPECT_FALSE(module->weight.grad().defined());

  auto input = torch::rand({2, 3}).set_requires_grad(true);
  torch::autograd::grad({module(input).sum()}, {input});
  EXPECT_EQ(calls, 1) << "a pass that brings no gradient of a parameter lets no update follow";
}

TEST(BackwardHookTest, SurvivesThatAParameterGetsOtherMemory) {
  torch::nn::Linear module(3, 3);
  int calls = 0;
  BackwardHook hook([&] { ++calls; });
  hook.Watch({module->weight});
  module->to(torch::kDouble);
  module(torch::rand({2, 3}, torch::kDouble)).sum().backward();
  EXPECT_EQ(calls, 1);
}

TEST(BackwardHookTest, WatchesAParameterOnceItIsNoLongerFrozen) {
  torch::nn::Linear module(3, 3);
  int calls = 0;
  BackwardHook hook([&] { ++calls; });
  module->weight.set_requires_grad(false);
  hook.Watch({module->weight});
  module->weight.set_requires_grad(true);
  hook.Watch({module->weight});
  module(torch::rand({2, 3})).sum().backward();
  EXPECT_EQ(calls, 1);
}

TEST(BackwardHookTest, IsQuietOnceItHasGone) {
  torch::nn::Linear module(3, 3);
  int calls = 0;
  {
    BackwardHook hook([&] { ++calls; });
    hook.Watch({module->weight});
  }
  module(torch::rand({2, 3})).sum().backward();
  EXPECT_EQ(calls, 0);
}

TEST(BackwardHookTest, ABackwardThatThrowsDoesNotSilenceTheNext) {
  torch::nn::Linear module(3, 3);
  int calls = 0;
  BackwardHook hook([&] { ++calls; });
  hook.Watch({module->weight, module->bias});
  auto input = torch::rand({2, 3}).set_requires_grad(true);
  input.register_hook([](const at::Tensor&) -> at::Tensor { throw std::runtime_error("on purpose"); });
  EXPECT_ANY_THROW(module(input).sum().backward());
  const int before = calls;
  module(torch::rand({2, 3})).sum().backward();
  EXPECT_EQ(calls, before + 1);
}

}  // namespace
}  // namespace belay::runtime
