// The Checkpointer against a real belayd, alone and (as checkpointer_mpi_test) on two ranks; alone also with the
// staging copier of GPUs, on a fake one (checkpointer_staged_test).
#include "belay/checkpointer.h"

#include <fstream>
#include <set>

#include <c10/core/StorageImpl.h>

#include "runtime/state/capture.h"
#include "tests/runtime/checkpointer/fixture.h"

namespace belay {

const char* const kBelayd = BELAY_BELAYD;

namespace {

using testing::HasSubstr;

// Only rank 0 describes buffers, so on two ranks one fails alone.
struct WithQueue : torch::nn::Module {
  WithQueue() : w(register_parameter("w", torch::ones({8}))), queue(register_buffer("queue", torch::zeros({4}))) {}
  at::Tensor w, queue;
};

TEST_F(CheckpointerTest, EveryOptimizerGoesOnBitForBit) {
  using namespace torch::optim;  // NOLINT: class names
  const std::vector<std::pair<std::string, Factory>> cases = {
      {"adam", [](auto p) { return std::make_unique<Adam>(p, AdamOptions(0.01).amsgrad(true)); }},
      {"adamw", AdamW},
      {"sgd", [](auto p) { return std::make_unique<SGD>(p, SGDOptions(0.1).momentum(0.9)); }},
      {"rmsprop",
       [](auto p) { return std::make_unique<RMSprop>(p, RMSpropOptions(0.01).momentum(0.5).centered(true)); }},
      {"adagrad", [](auto p) { return std::make_unique<Adagrad>(p, AdagradOptions(0.05)); }},
  };
  const std::string job = run().environment.job;
  for (const auto& [name, make] : cases) {
    SCOPED_TRACE(name);
    run().environment.job = job + "-" + name;
    run().environment.generation = 0;
    Restart();
    std::string whole;
    {
      Trainer trainer(1, make);
      for (int step = 0; step < 6; ++step) trainer.Step(step);
      whole = trainer.Fingerprint();
    }
    {
      Trainer trainer(1, make);
      Checkpointer checkpointer(TheSession(), Quiet());
      trainer.AddTo(checkpointer);
      ASSERT_EQ(checkpointer.resume(), 0);
      for (int step = 0; step < 3; ++step) {
        trainer.Step(step);
        checkpointer.step_done(step);
      }
      ASSERT_TRUE(checkpointer.save_now());
      EXPECT_TRUE(checkpointer.save_now()) << "saved already: nothing to do";
    }
    Restart();
    Trainer trainer(77, make);
    Checkpointer checkpointer(TheSession(), Quiet());
    trainer.AddTo(checkpointer);
    ASSERT_EQ(checkpointer.resume(), 3);
    EXPECT_EQ(trainer.note, "after step 2");
    for (int step = 3; step < 6; ++step) trainer.Step(step);
    EXPECT_TRUE(trainer.Fingerprint() == whole);
  }
}

TEST_F(CheckpointerTest, SavesBesideTrainingHoldTheStateOfTheirStep) {
  std::map<std::int64_t, std::string> history;
  {
    Trainer trainer(3, AdamW, 512);
    Checkpointer checkpointer(TheSession(), {.every = 1, .keep_last = 100, .save_at_end = false});
    trainer.AddTo(checkpointer);
    checkpointer.resume();
    for (int step = 0; step < 12; ++step) {
      trainer.Step(step);
      history[step + 1] = trainer.Fingerprint();
      checkpointer.step_done(step, {{"loss", 1.0 / (step + 1)}});
    }
    ASSERT_TRUE(checkpointer.save_now());
  }
  Restart();
  Trainer trainer(4, AdamW, 512);
  Checkpointer checkpointer(TheSession(), Quiet());
  trainer.AddTo(checkpointer);
  ASSERT_EQ(checkpointer.resume(), 12);
  EXPECT_TRUE(trainer.Fingerprint() == history[12]);
  if (main()) {
    EXPECT_GE(Committed().size(), 2U) << "at least one save ran beside training";
  }
  ASSERT_TRUE(run().Barrier());
}

// The first layer frozen before training, thawed after step 5.
TEST_F(CheckpointerTest, FrozenParametersShareAFileUntilTheyAreThawed) {
  const auto freeze = [](Trainer& trainer, bool frozen) {
    for (auto& parameter : trainer.model[0]->as<torch::nn::Linear>()->parameters()) {
      parameter.set_requires_grad(!frozen);
    }
  };
  std::string whole;
  {
    Trainer trainer(3);
    freeze(trainer, true);
    Checkpointer checkpointer(TheSession(), {.every = 0, .keep_last = 100, .save_at_end = false});
    trainer.AddTo(checkpointer);
    checkpointer.resume();
    for (int step = 0; step < 8; ++step) {
      if (step == 5) freeze(trainer, false);
      trainer.Step(step);
      checkpointer.step_done(step);
      ASSERT_TRUE(checkpointer.save_now());
    }
    whole = trainer.Fingerprint();
  }
  if (main()) {
    std::set<std::uint64_t> inodes;
    int files = 0;
    for (const std::string& folder : Committed()) {
      const auto names = base::PosixFileSystem().List(folder).value();
      for (const std::string& name : names) {
        if (name.find("-frozen.") == std::string::npos) continue;
        ++files;
        inodes.insert(base::PosixFileSystem().Stat(folder + "/" + name)->inode);
      }
    }
    EXPECT_GE(files, 5) << "one a checkpoint at least, on the ranks that hold a frozen piece";
    EXPECT_EQ(inodes.size() * 5, static_cast<std::size_t>(files)) << "all five are one";
  }
  ASSERT_TRUE(run().Barrier());
  Restart();
  Trainer trainer(4);
  Checkpointer checkpointer(TheSession(), Quiet());
  trainer.AddTo(checkpointer);
  ASSERT_EQ(checkpointer.resume(), 8);
  EXPECT_TRUE(trainer.Fingerprint() == whole);
}

TEST_F(CheckpointerTest, AnUpdateThatDoesNotWaitIsNeverCommitted) {
  // 64 MiB take a while to copy; the writes below come at once. A slow machine may copy in time, so several attempts;
  // each attempt must end committed or torn, and a checkpoint that is there must be of one moment.
  struct Big : torch::nn::Module {
    Big() : w(register_parameter("w", torch::zeros({16, 1 << 20}))) {}
    at::Tensor w;
  } model;
  Checkpointer checkpointer(TheSession(), {.every = 1, .keep_last = 100, .save_at_end = false});
  checkpointer.add("model", model);
  checkpointer.resume();
  testing::internal::CaptureStderr();
  std::string words;
  for (int step = 0; step < 30; ++step) {
    checkpointer.step_done(step);
    torch::NoGradGuard no_grad;
    for (int row = 15; row >= 0; --row) model.w[row].fill_(step + 1);
    checkpointer.before_update();
  }
  checkpointer.save_now();
  words = testing::internal::GetCapturedStderr();
  EXPECT_THAT(words, HasSubstr("the state changed while the snapshot of step"));
  Restart();
  Big loaded;
  Checkpointer second(TheSession(), Quiet());
  second.add("model", loaded);
  second.resume();
  EXPECT_TRUE(loaded.w.eq(loaded.w[0][0]).all().item<bool>()) << "a mix of two steps was committed";
}

TEST_F(CheckpointerTest, AnotherModelIsRefusedWithWhatDiffers) {
  {
    Trainer trainer(1, AdamW, 16);
    Checkpointer checkpointer(TheSession(), Quiet());
    trainer.AddTo(checkpointer);
    checkpointer.resume();
    trainer.Step(0);
    checkpointer.step_done(0);
    ASSERT_TRUE(checkpointer.save_now());
  }
  Restart();
  Trainer trainer(1, AdamW, 24);
  Checkpointer checkpointer(TheSession(), Quiet());
  trainer.AddTo(checkpointer);
  try {
    checkpointer.resume();
    FAIL() << "resumed a model of another shape";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_status(), 65);
    EXPECT_THAT(error.what(), HasSubstr("model.0.weight is [16, 8] F32 there and [24, 8] F32 here"));
  }
}

TEST_F(CheckpointerTest, ADamagedCheckpointIsReportedAndTheOlderOneUsed) {
  std::string older;
  {
    Trainer trainer(1);
    Checkpointer checkpointer(TheSession(), Quiet());
    trainer.AddTo(checkpointer);
    checkpointer.resume();
    for (int step = 0; step < 2; ++step) {
      trainer.Step(step);
      checkpointer.step_done(step);
      ASSERT_TRUE(checkpointer.save_now());
      if (step == 0) older = trainer.Fingerprint();
    }
  }
  StopDaemon(SIGTERM);  // and with it the copy in memory
  if (main()) {
    const auto checkpoints = Committed();
    ASSERT_EQ(checkpoints.size(), 2U);
    const std::string shard = checkpoints.back() + "/rank-00000.model.safetensors";
    std::fstream file(shard, std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(-5, std::ios::end);
    const int byte = file.get();
    file.seekp(-5, std::ios::end);
    file.put(static_cast<char>(byte ^ 0x10));
  }
  StartDaemon();
  Trainer trainer(2);
  Checkpointer checkpointer(TheSession(), Quiet());
  trainer.AddTo(checkpointer);
  testing::internal::CaptureStderr();
  const auto first = checkpointer.resume();
  const std::string words = testing::internal::GetCapturedStderr();
  EXPECT_EQ(first, 1);
  EXPECT_TRUE(trainer.Fingerprint() == older);
  if (main()) {
    EXPECT_THAT(words, HasSubstr("a checkpoint could not be loaded"));
  }
}

TEST_F(CheckpointerTest, TrainingGoesOnWhenTheDaemonIsKilled) {
  std::string saved;
  {
    Trainer trainer(1);
    Checkpointer checkpointer(TheSession(), Quiet(1));
    trainer.AddTo(checkpointer);
    checkpointer.resume();
    trainer.Step(0);
    checkpointer.step_done(0);
    ASSERT_TRUE(checkpointer.save_now());
    saved = trainer.Fingerprint();
    StopDaemon(SIGKILL);
    testing::internal::CaptureStderr();
    for (int step = 1; step < 4; ++step) {
      trainer.Step(step);
      EXPECT_EQ(checkpointer.step_done(step), Next::kContinue);
    }
    EXPECT_FALSE(checkpointer.save_now());
    const std::string words = testing::internal::GetCapturedStderr();
    if (main()) {
      EXPECT_THAT(words, HasSubstr("training goes on"));
    }
  }
  StartDaemon();
  Trainer trainer(2);
  Checkpointer checkpointer(TheSession(), Quiet());
  trainer.AddTo(checkpointer);
  EXPECT_EQ(checkpointer.resume(), 1);
  EXPECT_TRUE(trainer.Fingerprint() == saved);
}

TEST_F(CheckpointerTest, ALayoutThatChangesIsSavedAsItIs) {
  // SGD makes its momentum at the first step: the layout at resume() has none.
  const Factory sgd = [](auto p) {
    return std::make_unique<torch::optim::SGD>(p, torch::optim::SGDOptions(0.1).momentum(0.9));
  };
  std::string saved;
  {
    Trainer trainer(1, sgd);
    Checkpointer checkpointer(TheSession(), Quiet());
    trainer.AddTo(checkpointer);
    checkpointer.resume();
    checkpointer.step_done(-1);  // nothing trained yet
    ASSERT_TRUE(checkpointer.save_now());
    trainer.Step(0);
    checkpointer.step_done(0);
    ASSERT_TRUE(checkpointer.save_now());
    saved = trainer.Fingerprint();
  }
  Restart();
  Trainer trainer(2, sgd);
  Checkpointer checkpointer(TheSession(), Quiet());
  trainer.AddTo(checkpointer);
  ASSERT_EQ(checkpointer.resume(), 1);
  EXPECT_TRUE(trainer.Fingerprint() == saved);
  EXPECT_EQ(trainer.optimizer->state().size(), trainer.model->parameters().size());
}

TEST_F(CheckpointerTest, ALayoutThatChangesOnOneRankAloneCostsNoSave) {
  // The other ranks have begun the step when this one says that its layout is new; all begin it again then, in any
  // order. Several times, because the order that matters is a matter of chance.
  at::Tensor own = torch::zeros({4});
  WithQueue model;
  Checkpointer checkpointer(TheSession(), Quiet());
  checkpointer.add("model", model).add("own", own, true);
  checkpointer.resume();
  const bool last = run().place.rank == run().place.world_size - 1;
  for (int step = 0; step < 10; ++step) {
    if (last) own.set_data(torch::full({5 + step}, static_cast<double>(step)));
    checkpointer.step_done(step);
    EXPECT_TRUE(checkpointer.save_now()) << "step " << step;
  }
}

TEST_F(CheckpointerTest, SaveNowBeforeAnyStepIsKnownSavesNothing) {
  Trainer trainer(1);
  Checkpointer checkpointer(TheSession(), Quiet());
  trainer.AddTo(checkpointer);
  testing::internal::CaptureStderr();
  EXPECT_FALSE(checkpointer.save_now());
  const std::string words = testing::internal::GetCapturedStderr();
  if (main()) {
    EXPECT_THAT(words, HasSubstr("nothing saved: save_now() comes after resume() or step_done()"));
  }
  ASSERT_EQ(checkpointer.resume(), 0);
  EXPECT_TRUE(checkpointer.save_now()) << "the untrained state is one";
  Restart();
  Trainer later(2);
  Checkpointer second(TheSession(), Quiet());
  later.AddTo(second);
  EXPECT_EQ(second.resume(), 0);
  EXPECT_TRUE(later.Fingerprint() == trainer.Fingerprint());
}

TEST_F(CheckpointerTest, AStateThatTorchCannotCopyAsideCostsTheSaveNotTheTraining) {
  WithQueue model;
  Checkpointer checkpointer(TheSession(), Quiet(1));
  checkpointer.add("model", model);
  checkpointer.resume();
  testing::internal::CaptureStderr();
  // A pebibyte that nobody has; its address is never read.
  static float nowhere = 0;
  model.queue.set_data(torch::from_blob(&nowhere, {std::int64_t{1} << 48}));
  for (int step = 0; step < 3; ++step) EXPECT_EQ(checkpointer.step_done(step), Next::kContinue);
  EXPECT_FALSE(checkpointer.save_now());
  const std::string words = testing::internal::GetCapturedStderr();
  if (main()) {
    EXPECT_THAT(words, HasSubstr("the save was given up; training goes on step=1 "));
    EXPECT_THAT(words, HasSubstr("the save was given up; training goes on step=3 "));
    EXPECT_THAT(words, HasSubstr("rank 0: describing the state failed: "));
    EXPECT_THAT(words, HasSubstr("you tried to allocate"));
  }
  model.queue.set_data(torch::full({4}, 5.0));
  EXPECT_EQ(checkpointer.step_done(3), Next::kContinue);
  EXPECT_TRUE(checkpointer.save_now());
  Restart();
  WithQueue loaded;
  Checkpointer second(TheSession(), Quiet());
  second.add("model", loaded);
  EXPECT_EQ(second.resume(), 4);
  EXPECT_TRUE(loaded.queue.eq(5).all().item<bool>());
}

TEST_F(CheckpointerTest, ARankThatFailsAfterAllHaveBegunCostsTheSaveNotTheTraining) {
  WithQueue model;
  const bool last = run().place.rank == run().place.world_size - 1;
  int broken = 0;
  Checkpointer checkpointer(TheSession(), Quiet());
  checkpointer.add("model", model)
      .add(
          "note",
          [&]() -> std::string {
            if (last && broken == 1) throw 7;  // no std::exception
            if (main() && broken == 2) {
              model.queue.storage().unsafeGetStorageImpl()->release_data_and_set_meta_custom_data_ptr_error_msg_(
                  "the memory is gone");
            }
            return "fine";
          },
          [](const std::string&) {});
  checkpointer.resume();
  for (const int fault : {1, 2}) {
    SCOPED_TRACE(fault);
    broken = fault;
    testing::internal::CaptureStderr();
    checkpointer.step_done(fault);
    EXPECT_FALSE(checkpointer.save_now());
    const std::string words = testing::internal::GetCapturedStderr();
    if (fault == 1 ? last : main()) {
      EXPECT_THAT(words, HasSubstr("capturing the state failed: "));
      EXPECT_THAT(words, HasSubstr(fault == 1 ? "no std::exception" : "the memory is gone"));
    }
    // Nothing is under way, so no pass waits for it.
    (model.w * 2).sum().backward();
    broken = 0;
    model.queue.set_data(torch::zeros({4}));
    checkpointer.step_done(10 * fault);
    EXPECT_TRUE(checkpointer.save_now());
  }
}

TEST_F(CheckpointerTest, BuffersThatTakeMuchMemoryAsideAreNamed) {
  WithQueue model;
  Checkpointer checkpointer(TheSession(), Quiet(1));
  checkpointer.add("model", model);
  checkpointer.resume();
  // Without an engine no save comes so far that it touches the memory.
  run().torch->copy_engine = []() -> base::Result<std::unique_ptr<runtime::CopyEngine>> {
    return base::Fail(base::Code::kDevice, "no engine");
  };
  model.queue.set_data(torch::empty({static_cast<std::int64_t>(runtime::Capture::kSideBytesMax) / 4 + 1}));
  testing::internal::CaptureStderr();
  for (int step = 0; step < 2; ++step) checkpointer.step_done(step);
  const std::string words = testing::internal::GetCapturedStderr();
  const auto warned = words.find("buffers are copied aside at each save");
  EXPECT_EQ(warned != std::string::npos, main());
  if (main()) {
    EXPECT_THAT(words, HasSubstr("largest=model.queue"));
    EXPECT_THAT(words, HasSubstr("no engine"));
    EXPECT_EQ(words.find("buffers are copied aside at each save", warned + 1), std::string::npos) << "once";
  }
}

TEST_F(CheckpointerTest, MetricsGivenToStepDoneDecideWhichCheckpointIsBest) {
  {
    WithQueue model;
    Checkpointer checkpointer(TheSession(), {.every = 0,
                                             .keep_last = 1,
                                             .keep_best = 1,
                                             .best_metric = "accuracy",
                                             .larger_is_better = true,
                                             .save_at_end = false});
    checkpointer.add("model", model);
    checkpointer.resume();
    const std::vector<double> accuracy = {0.2, 0.9, 0.5, 0.7};
    for (int step = 0; step < 4; ++step) {
      checkpointer.step_done(step, {{"accuracy", accuracy[static_cast<std::size_t>(step)]}, {"loss", 1.5}});
      ASSERT_TRUE(checkpointer.save_now());
    }
  }
  if (main()) {
    // Deleting follows the commit.
    const auto settled = [&] { return CommittedSteps().size() <= 2; };
    for (int attempt = 0; attempt < 3000 && !settled(); ++attempt) {
      base::SystemClock().SleepFor(std::chrono::milliseconds(10));
    }
    EXPECT_THAT(CommittedSteps(), testing::UnorderedElementsAre(2, 4));
    for (const std::string& path : Committed()) {
      const auto text = base::ReadWholeFile(base::PosixFileSystem(), path + "/manifest.json", 1 << 20);
      ASSERT_TRUE(text);
      EXPECT_THAT(*text, HasSubstr("\"loss\"")) << path;
      EXPECT_THAT(*text, HasSubstr("\"accuracy\"")) << path;
    }
  }
  ASSERT_TRUE(run().Barrier());
}

TEST_F(CheckpointerTest, GradientsMayBeAccumulatedBesideASave) {
  const auto train = [](Trainer& trainer) {
    trainer.optimizer->zero_grad();
    for (int part = 0; part < 3; ++part) {
      const auto x = torch::rand({4, 8});
      (trainer.model->forward(x).square().mean() / 3).backward();
    }
    trainer.optimizer->step();
  };
  std::string saved;
  {
    Trainer trainer(3, AdamW, 512);
    Checkpointer checkpointer(TheSession(), Quiet(3));
    trainer.AddTo(checkpointer);
    checkpointer.resume();
    for (int step = 0; step < 5; ++step) {
      train(trainer);
      if (step == 2) saved = trainer.Fingerprint();
      checkpointer.step_done(step);
    }
    AwaitCommitted(3);
  }
  Restart();
  Trainer trainer(4, AdamW, 512);
  Checkpointer checkpointer(TheSession(), Quiet());
  trainer.AddTo(checkpointer);
  ASSERT_EQ(checkpointer.resume(), 3);
  EXPECT_TRUE(trainer.Fingerprint() == saved);
}

TEST_F(CheckpointerTest, WithoutADaemonItTrainsWithOneWarning) {
  run().environment.socket.clear();
  testing::internal::CaptureStderr();
  {
    Trainer trainer(1);
    Checkpointer checkpointer(TheSession(), Quiet(1));
    trainer.AddTo(checkpointer);
    EXPECT_EQ(checkpointer.resume(), 0);
    for (int step = 0; step < 3; ++step) {
      trainer.Step(step);
      EXPECT_EQ(checkpointer.step_done(step), Next::kContinue);
    }
    EXPECT_FALSE(checkpointer.save_now());
  }
  const std::string words = testing::internal::GetCapturedStderr();
  if (main()) {
    EXPECT_THAT(words, HasSubstr("training without checkpoints"));
  }
}

TEST_F(CheckpointerTest, ADaemonThatDoesNotAnswerEndsResumeInsteadOfStartingAfresh) {
  run().environment.socket = folder_ + "/nobody";
  Trainer trainer(1);
  Checkpointer checkpointer(TheSession(), Quiet(1));
  trainer.AddTo(checkpointer);
  try {
    checkpointer.resume();
    FAIL() << "started afresh";
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_status(), 69);
  }
}

TEST_F(CheckpointerTest, LeavingItsScopeSavesTheLastStep) {
  std::string last;
  {
    Trainer trainer(1);
    Checkpointer checkpointer(TheSession(), {.every = 0});
    trainer.AddTo(checkpointer);
    checkpointer.resume();
    for (int step = 0; step < 2; ++step) {
      trainer.Step(step);
      checkpointer.step_done(step);
    }
    last = trainer.Fingerprint();
  }
  Restart();
  Trainer trainer(2);
  Checkpointer checkpointer(TheSession(), Quiet());
  trainer.AddTo(checkpointer);
  ASSERT_EQ(checkpointer.resume(), 2);
  EXPECT_TRUE(trainer.Fingerprint() == last);
}

TEST_F(CheckpointerTest, TheLastSaveIsTriedAgainWhenTheDaemonWasReplacedMeanwhile) {
  bool replace = false;
  std::string last;
  {
    Trainer trainer(1);
    Checkpointer checkpointer(TheSession(), {.every = 0});
    trainer.AddTo(checkpointer);
    // Asked when every rank has begun the save: what they began goes with the daemon.
    checkpointer.add(
        "trouble",
        [&]() -> std::string {
          if (std::exchange(replace, false)) ReplaceDaemon();
          return "";
        },
        [](const std::string&) {});
    checkpointer.resume();
    trainer.Step(0);
    checkpointer.step_done(0);
    last = trainer.Fingerprint();
    replace = main();
  }
  BeginRun();
  Trainer trainer(2);
  Checkpointer checkpointer(TheSession(), Quiet());
  trainer.AddTo(checkpointer);
  checkpointer.add(
      "trouble", [] { return std::string(); }, [](const std::string&) {});
  ASSERT_EQ(checkpointer.resume(), 1);
  EXPECT_TRUE(trainer.Fingerprint() == last);
}

TEST_F(CheckpointerTest, ALastSaveThatANewerRunForbidsIsNotTriedAgain) {
  testing::internal::CaptureStderr();
  const auto start = base::SystemClock().Now();
  {
    Trainer trainer(1);
    Checkpointer checkpointer(TheSession(), {.every = 0});
    trainer.AddTo(checkpointer);
    checkpointer.resume();
    trainer.Step(0);
    checkpointer.step_done(0);
    Restart();
  }
  EXPECT_LT(base::SystemClock().Now() - start, std::chrono::seconds(30)) << "waited for what cannot mend";
  const std::string words = testing::internal::GetCapturedStderr();
  if (main()) {
    EXPECT_THAT(words, HasSubstr("a newer run of job"));
  }
}

// Last, because a session that was stopped stays so.
TEST_F(CheckpointerTest, ZStopAskedOfOneRankSavesTheSameStepOnAll) {
  std::string last;
  std::int64_t stopped_after = -1;
  {
    Trainer trainer(1);
    Checkpointer checkpointer(TheSession(), Quiet());
    trainer.AddTo(checkpointer);
    checkpointer.resume();
    for (int step = 0; step < 50; ++step) {
      trainer.Step(step);
      if (step == 3 && run().place.rank == run().place.world_size - 1) ::raise(SIGUSR1);
      if (checkpointer.step_done(step) == Next::kStop) {
        stopped_after = step + 1;
        break;
      }
    }
    last = trainer.Fingerprint();
  }
  ASSERT_GT(stopped_after, 3);
  ASSERT_LE(stopped_after, 6);
  Restart();
  Trainer trainer(2);
  Checkpointer checkpointer(TheSession(), Quiet());
  trainer.AddTo(checkpointer);
  EXPECT_EQ(checkpointer.resume(), stopped_after);
  EXPECT_TRUE(trainer.Fingerprint() == last);
}

}  // namespace
}  // namespace belay
