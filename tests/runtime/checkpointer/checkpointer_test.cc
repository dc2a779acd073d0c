// The Checkpointer against a real belayd, alone and (as checkpointer_mpi_test) on two ranks.
#include "belay/checkpointer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <functional>

#include "belay/sampler.h"
#include "checkpoint/client/client.h"
#include "runtime/base/clock.h"
#include "runtime/base/environment.h"
#include "runtime/base/file_system.h"
#include "runtime/base/process_spawner.h"
#include "runtime/session/session_state.h"

namespace belay {
namespace {

using testing::HasSubstr;

Session& TheSession() {
  static char name[] = "checkpointer_test";
  static char* argv[] = {name, nullptr};
  static auto* session = new Session(1, argv);
  return *session;
}

class LeaveMpi : public testing::Environment {
 public:
  void TearDown() override {
    TheSession().finish();
    delete &TheSession();
  }
};
const auto* const kLeaveMpi = testing::AddGlobalTestEnvironment(new LeaveMpi);

// A belayd of this test alone. Rank 0 looks after it; the others only learn where it is.
class CheckpointerTest : public testing::Test {
 protected:
  detail::SessionState& run() { return TheSession().state(); }
  bool main() { return run().place.rank == 0; }

  void SetUp() override {
    std::string folder;
    if (main()) {
      std::string pattern = testing::TempDir() + "belay-ckpt-XXXXXX";
      ASSERT_NE(mkdtemp(pattern.data()), nullptr);
      folder = pattern;
    }
    ASSERT_TRUE(run().Broadcast(&folder));
    folder_ = folder;
    run().environment.project = "test";
    run().environment.job = testing::UnitTest::GetInstance()->current_test_info()->name();
    run().environment.socket = folder_ + "/s";
    run().environment.grace_seconds = 60;
    StartDaemon();
  }

  void TearDown() override {
    StopDaemon(SIGTERM);
    if (main()) {
      EXPECT_TRUE(base::RemoveTree(base::PosixFileSystem(), folder_));
    }
    ASSERT_TRUE(run().Barrier());
  }

  void StartDaemon() {
    std::string generation;
    if (main()) {
      base::SpawnRequest request;
      request.argv = {BELAY_BELAYD, "--data-dir", folder_ + "/data", "--socket", folder_ + "/s"};
      request.environment = base::WholeEnvironment();
      auto pid = base::PosixProcessSpawner().Spawn(std::move(request));
      ASSERT_TRUE(pid) << pid.error().Text();
      pid_ = *pid;
      for (int attempt = 0; attempt < 600 && launcher_ == nullptr; ++attempt) {
        auto client = checkpoint::Client::Connect(base::UnixTransport(), run().environment.socket, "belay");
        if (client)
          launcher_ = std::move(*client);
        else
          base::SystemClock().SleepFor(std::chrono::milliseconds(50));
      }
      ASSERT_NE(launcher_, nullptr) << "belayd does not answer";
      NewGeneration(&generation);
    }
    ASSERT_TRUE(run().Broadcast(&generation));
    run().environment.generation = std::stoull(generation);
  }
  void NewGeneration(std::string* generation) {
    auto grant = launcher_->BeginRun({run().environment.project, run().environment.job}, run().place.world_size,
                                     base::Generation(run().environment.generation));
    if (!grant) grant = launcher_->BeginRun({run().environment.project, run().environment.job}, run().place.world_size);
    ASSERT_TRUE(grant) << grant.error().Text();
    *generation = std::to_string(grant->generation.value());
  }
  // As a restart of the run: the launcher stays, the ranks get a new generation.
  void Restart() {
    std::string generation;
    if (main()) NewGeneration(&generation);
    ASSERT_TRUE(run().Broadcast(&generation));
    run().environment.generation = std::stoull(generation);
  }
  void StopDaemon(int signal) {
    launcher_.reset();
    if (pid_ > 0) {
      ::kill(pid_, signal);
      auto exit = base::PosixProcessSpawner().Wait(pid_, std::chrono::seconds(60));
      EXPECT_TRUE(exit && *exit) << "belayd does not leave";
      pid_ = 0;
    }
    ASSERT_TRUE(run().Barrier());
  }
  std::vector<std::string> Committed() {
    auto& files = base::PosixFileSystem();
    const std::string job = folder_ + "/data/test/" + run().environment.job;
    std::vector<std::string> found;
    const auto names = files.List(job).value();
    for (const std::string& name : names) {
      if (base::Exists(files, job + "/" + name + "/manifest.json")) found.push_back(job + "/" + name);
    }
    return found;
  }

  std::string folder_;
  pid_t pid_ = 0;
  std::unique_ptr<checkpoint::Client> launcher_;
};

using Factory = std::function<std::unique_ptr<torch::optim::Optimizer>(std::vector<at::Tensor>)>;
std::unique_ptr<torch::optim::Optimizer> AdamW(std::vector<at::Tensor> parameters) {
  return std::make_unique<torch::optim::AdamW>(std::move(parameters), torch::optim::AdamWOptions(0.01));
}

// A small training program: dropout and BatchNorm, so that random numbers and buffers matter. Seeded alike on all
// ranks, which keeps their parameters alike without any communication.
struct Trainer {
  explicit Trainer(std::uint64_t seed, const Factory& make = AdamW, int width = 16) : sampler(1000, 4, 7, 0, 1) {
    torch::manual_seed(seed);
    model = torch::nn::Sequential(torch::nn::Linear(8, width), torch::nn::BatchNorm1d(width), torch::nn::ReLU(),
                                  torch::nn::Dropout(0.3), torch::nn::Linear(width, 1));
    optimizer = make(model->parameters());
    if (TheSession().world_size() > 1) memory = torch::full({3}, TheSession().rank());
  }
  void AddTo(Checkpointer& checkpointer) {
    checkpointer.add("model", *model)
        .add("optimizer", *optimizer)
        .add("sampler", sampler)
        .add("memory", memory, true)
        .add(
            "note", [this] { return note; }, [this](const std::string& text) { note = text; });
  }
  void Step(int step) {
    optimizer->zero_grad();
    const auto indices = sampler.next();
    auto x = torch::rand({4, 8}) + static_cast<double>(indices[0] % 10) * 0.1;
    loss = model->forward(x).square().mean();
    loss.backward();
    optimizer->step();
    memory.add_(1);
    note = "after step " + std::to_string(step);
  }
  // Everything, as bytes that can be compared.
  std::string Fingerprint() const {
    std::string bytes = note + sampler.save();
    const auto take = [&](const at::Tensor& t) {
      const auto c = t.detach().contiguous();
      bytes.append(static_cast<const char*>(c.const_data_ptr()), c.nbytes());
    };
    for (const auto& p : model->parameters()) take(p);
    for (const auto& b : model->buffers()) take(b);
    take(memory);
    take(at::globalContext().defaultGenerator(at::kCPU).get_state());
    return bytes;
  }
  torch::nn::Sequential model;
  std::unique_ptr<torch::optim::Optimizer> optimizer;
  PermutationSampler sampler;
  at::Tensor memory = torch::zeros({3});
  at::Tensor loss;
  std::string note = "fresh";
};

CheckpointOptions Quiet(std::int64_t every = 0) { return {.every = every, .save_at_end = false}; }

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
