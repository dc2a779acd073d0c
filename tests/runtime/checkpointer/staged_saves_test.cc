// Saves through the staging copier, from the mark at the end of a step to the guard before the next update, on a fake
// GPU that copies as late as it may.
#include <c10/cuda/CUDAFunctions.h>

#include "tests/runtime/checkpointer/fixture.h"

namespace belay {

const char* const kBelayd = BELAY_BELAYD;

namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

class StagedSavesTest : public CheckpointerTest {
 protected:
  void SetUp() override {
    CheckpointerTest::SetUp();
    UseLazyEngine();
  }
  // Copies stand still until the training stream waits for them: the busiest of all GPUs.
  void HoldCopies(bool hold) {
    engine_->Set([&](auto& controls) { controls.host_waits_for_training = hold; });
  }
  // Collective.
  void ExpectResumed(std::int64_t step, const std::string& state) {
    Restart();
    Trainer trainer(99);
    Checkpointer checkpointer(TheSession(), Quiet());
    trainer.AddTo(checkpointer);
    EXPECT_EQ(checkpointer.resume(), step);
    EXPECT_TRUE(trainer.Fingerprint() == state);
  }
};

TEST_F(StagedSavesTest, TheUpdateAfterTheNextBackwardIsNotInTheCopy) {
  std::string saved;
  {
    Trainer trainer(1);
    Checkpointer checkpointer(TheSession(), Quiet(2));
    trainer.AddTo(checkpointer);
    checkpointer.resume();
    HoldCopies(true);
    for (int step = 0; step < 3; ++step) {
      trainer.Step(step);
      if (step == 1) saved = trainer.Fingerprint();
      checkpointer.step_done(step);
      EXPECT_EQ(engine_->TrainingWaits(), step < 2 ? 0 : 1);
    }
    AwaitCommitted(2);
    EXPECT_EQ(engine_->Marks(), 1);
    HoldCopies(false);
  }
  ExpectResumed(2, saved);
}

TEST_F(StagedSavesTest, OnlyTheFirstOfAccumulatedBackwardPassesWaits) {
  std::string saved;
  {
    Trainer trainer(1);
    Checkpointer checkpointer(TheSession(), Quiet(1));
    trainer.AddTo(checkpointer);
    checkpointer.resume();
    trainer.Step(0);
    saved = trainer.Fingerprint();
    HoldCopies(true);
    checkpointer.step_done(0);
    for (int part = 0; part < 3; ++part) {
      trainer.model->forward(torch::rand({4, 8})).square().mean().backward();
      EXPECT_EQ(engine_->TrainingWaits(), 1);
    }
    trainer.optimizer->step();
    AwaitCommitted(1);
    HoldCopies(false);
  }
  ExpectResumed(1, saved);
}

TEST_F(StagedSavesTest, AnUpdateFedByGradWaitsToo) {
  std::string saved;
  {
    // SGD writes through .data(), which no version counter shows: only the wait keeps the copy whole.
    const Factory sgd = [](auto p) {
      return std::make_unique<torch::optim::SGD>(p, torch::optim::SGDOptions(0.1).momentum(0.9));
    };
    Trainer trainer(1, sgd);
    Checkpointer checkpointer(TheSession(), Quiet(1));
    trainer.AddTo(checkpointer);
    checkpointer.resume();
    trainer.Step(0);
    saved = trainer.Fingerprint();
    HoldCopies(true);
    checkpointer.step_done(0);
    const auto loss = trainer.model->forward(torch::rand({4, 8})).square().mean();
    auto parameters = trainer.model->parameters();
    const auto gradients = torch::autograd::grad({loss}, parameters);
    EXPECT_EQ(engine_->TrainingWaits(), 1);
    for (std::size_t i = 0; i < parameters.size(); ++i) parameters[i].mutable_grad() = gradients[i];
    trainer.optimizer->step();
    AwaitCommitted(1);
    HoldCopies(false);
  }
  Restart();
  Trainer trainer(
      99, [](auto p) { return std::make_unique<torch::optim::SGD>(p, torch::optim::SGDOptions(0.1).momentum(0.9)); });
  Checkpointer checkpointer(TheSession(), Quiet());
  trainer.AddTo(checkpointer);
  EXPECT_EQ(checkpointer.resume(), 1);
  EXPECT_TRUE(trainer.Fingerprint() == saved);
}

TEST_F(StagedSavesTest, AWriteBeforeTheGuardGivesTheSnapshotUp) {
  Trainer trainer(1);
  Checkpointer checkpointer(TheSession(), Quiet(2));
  trainer.AddTo(checkpointer);
  checkpointer.resume();
  trainer.Step(0);
  checkpointer.step_done(0);
  trainer.Step(1);
  HoldCopies(true);
  testing::internal::CaptureStderr();
  checkpointer.step_done(1);
  {
    const torch::NoGradGuard no_grad;
    trainer.model->parameters()[0].add_(1);
  }
  checkpointer.before_update();
  HoldCopies(false);
  trainer.Step(2);
  checkpointer.step_done(2);
  EXPECT_TRUE(checkpointer.save_now());
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("the state changed while the snapshot of step 2"));
  if (main()) {
    EXPECT_THAT(CommittedSteps(), Not(Contains(2)));
    EXPECT_THAT(CommittedSteps(), Contains(3));
  }
  ASSERT_TRUE(run().Barrier());
}

TEST_F(StagedSavesTest, AGuardThatFailsSpoilsTheSnapshot) {
  Trainer trainer(1);
  Checkpointer checkpointer(TheSession(), Quiet(2));
  trainer.AddTo(checkpointer);
  checkpointer.resume();
  trainer.Step(0);
  checkpointer.step_done(0);
  trainer.Step(1);
  engine_->Set([](auto& controls) {
    controls.host_waits_for_training = true;
    controls.fail_training_wait = true;
  });
  testing::internal::CaptureStderr();
  checkpointer.step_done(1);
  trainer.Step(2);  // the stream could not be told to wait, so this may be in the copy
  engine_->Set([](auto& controls) { controls.fail_training_wait = controls.host_waits_for_training = false; });
  checkpointer.step_done(2);
  EXPECT_TRUE(checkpointer.save_now());
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("the state changed while the snapshot of step 2"));
  if (main()) {
    EXPECT_THAT(CommittedSteps(), Not(Contains(2)));
  }
  ASSERT_TRUE(run().Barrier());
}

TEST_F(StagedSavesTest, ASaveThatNeverBeginsToCopyHoldsNoUpdateUp) {
  Trainer trainer(1);
  Checkpointer checkpointer(TheSession(), Quiet(1));
  trainer.AddTo(checkpointer);
  checkpointer.resume();
  const std::vector<std::pair<bool runtime::LazyEngine::Controls::*, std::string>> faults = {
      {&runtime::LazyEngine::Controls::fail_mark, "the fake cannot mark"},
      {&runtime::LazyEngine::Controls::fail_side, "the fake's side stream is broken"}};
  int step = 0;
  for (const auto& [fault, words] : faults) {
    SCOPED_TRACE(words);
    testing::internal::CaptureStderr();
    engine_->Set([&](auto& controls) { controls.*fault = true; });
    trainer.Step(step);
    checkpointer.step_done(step++);
    trainer.Step(step);  // would hang in backward
    EXPECT_FALSE(checkpointer.save_now());
    engine_->Set([&](auto& controls) { controls.*fault = false; });
    checkpointer.step_done(step++);
    EXPECT_TRUE(checkpointer.save_now());
    EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr(words));
  }
}

TEST_F(StagedSavesTest, ARankThatHasNothingToWriteHoldsNoUpdateUp) {
  // One number: on two ranks it is dealt to one of them, and the other's copy never begins.
  struct Number : torch::nn::Module {
    Number() : x(register_parameter("x", torch::ones({1}))) {}
    at::Tensor x;
  } model;
  {
    Checkpointer checkpointer(TheSession(), Quiet(1));
    checkpointer.add("model", model);
    checkpointer.resume();
    checkpointer.step_done(0);
    (model.x * 3).sum().backward();
    AwaitCommitted(1);
  }
  Restart();
  Number loaded;
  {
    const torch::NoGradGuard no_grad;
    loaded.x.zero_();
  }
  Checkpointer checkpointer(TheSession(), Quiet());
  checkpointer.add("model", loaded);
  EXPECT_EQ(checkpointer.resume(), 1);
  EXPECT_EQ(loaded.x.item<float>(), 1);
}

TEST_F(StagedSavesTest, TheShownStallIsTheLastSavesWithTheWaitOfItsUpdate) {
  run().stall_seconds = 0;
  run().page()->stall_ms_bits.store(base::DoubleBits(-1));
  engine_->Set([](auto& controls) { controls.stream_wait_seconds = -1; });
  Trainer trainer(1);
  Checkpointer checkpointer(TheSession(), Quiet(2));
  trainer.AddTo(checkpointer);
  checkpointer.resume();
  trainer.Step(0);
  checkpointer.step_done(0);
  trainer.Step(1);
  checkpointer.step_done(1);
  EXPECT_EQ(ShownStallMs(), -1) << "the save has begun, what it costs is not known";
  trainer.Step(2);
  EXPECT_GE(ShownStallMs(), 0);
  EXPECT_LT(ShownStallMs(), 60'000);
  EXPECT_NEAR(ShownStallMs(), 1e3 * run().stall_seconds, 1) << "metrics and page tell of the same save";
  engine_->Set([](auto& controls) { controls.stream_wait_seconds = 100; });
  checkpointer.step_done(2);  // by now the stream has passed the wait
  EXPECT_GE(ShownStallMs(), 100'000);
  EXPECT_GE(run().stall_seconds, 100);
  EXPECT_LT(run().stall_seconds, 200) << "counted once";
}

TEST_F(StagedSavesTest, TensorsInHostMemoryAreCopiedWithoutAnEngine) {
  run().torch->copy_engine = nullptr;
  std::string saved;
  {
    Trainer trainer(1);
    Checkpointer checkpointer(TheSession(), Quiet());
    trainer.AddTo(checkpointer);
    checkpointer.resume();
    trainer.Step(0);
    checkpointer.step_done(0);
    ASSERT_TRUE(checkpointer.save_now());
    saved = trainer.Fingerprint();
  }
  EXPECT_EQ(engine_->Marks(), 0);
  ExpectResumed(1, saved);
}

TEST_F(StagedSavesTest, TensorsOnAGpuAreCopiedByItsEngine) {
  if (c10::cuda::device_count() == 0) GTEST_SKIP() << "no CUDA device";
  run().torch->copy_engine = nullptr;
  const at::Device gpu(at::kCUDA, 0);
  const auto make = [&](double start) {
    torch::nn::Sequential model(torch::nn::Linear(64, 512), torch::nn::BatchNorm1d(512), torch::nn::Linear(512, 1));
    model->to(gpu);
    const torch::NoGradGuard no_grad;
    for (auto& parameter : model->parameters()) parameter.fill_(start);
    return model;
  };
  const auto all = [](torch::nn::Sequential& model) {
    std::vector<at::Tensor> tensors;
    for (const auto& tensor : model->parameters()) tensors.push_back(tensor.detach().cpu());
    for (const auto& tensor : model->buffers()) tensors.push_back(tensor.cpu());
    return tensors;
  };
  std::vector<at::Tensor> saved;
  {
    auto model = make(0.01);
    torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.01));
    Checkpointer checkpointer(TheSession(), Quiet(2));
    checkpointer.add("model", *model).add("optimizer", optimizer);
    checkpointer.resume();
    for (int step = 0; step < 4; ++step) {
      optimizer.zero_grad();
      model->forward(torch::ones({8, 64}, gpu)).square().mean().backward();
      optimizer.step();
      if (step == 1) saved = all(model);
      if (step < 3) checkpointer.step_done(step);
    }
    AwaitCommitted(2);
  }
  Restart();
  auto model = make(0.5);
  torch::optim::AdamW optimizer(model->parameters(), torch::optim::AdamWOptions(0.01));
  Checkpointer checkpointer(TheSession(), Quiet());
  checkpointer.add("model", *model).add("optimizer", optimizer);
  ASSERT_EQ(checkpointer.resume(), 2);
  const auto loaded = all(model);
  for (std::size_t i = 0; i < saved.size(); ++i) EXPECT_TRUE(saved[i].equal(loaded[i])) << i;
}

}  // namespace
}  // namespace belay
