// A belayd of a test's own, on one rank or several, and a small training program to save.
//
// BELAY_TEST_ENGINE=lazy in the environment makes all saves go through the staging copier, on a fake GPU.
#pragma once

#include "belay/checkpointer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "belay/sampler.h"
#include "checkpoint/client/client.h"
#include "checkpoint/format/manifest.h"
#include "runtime/base/clock.h"
#include "runtime/base/environment.h"
#include "runtime/base/file_system.h"
#include "runtime/base/process_spawner.h"
#include "runtime/base/shared_memory.h"
#include "runtime/session/session_state.h"
#include "runtime/session/torch_parts.h"
#include "tests/runtime/cuda/lazy_engine.h"

namespace belay {

// The program; each test file says where its build has put it.
extern const char* const kBelayd;

// With a control page, as under belay run.
inline Session& TheSession() {
  static auto* session = [] {
    static char name[] = "checkpointer_test";
    static char* argv[] = {name, nullptr};
    static auto* page = new base::SharedControlPage(base::SharedControlPage::Create().value());
    setenv("BELAY_CONTROL_FD", std::to_string(page->descriptor()).c_str(), 1);
    return new Session(1, argv);
  }();
  return *session;
}

class LeaveMpi : public testing::Environment {
 public:
  void TearDown() override {
    TheSession().finish();
    delete &TheSession();
  }
};
inline const auto* const kLeaveMpi = testing::AddGlobalTestEnvironment(new LeaveMpi);

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
    if (base::GetEnvironment("BELAY_TEST_ENGINE") == "lazy") UseLazyEngine();
    StartDaemon();
  }

  void TearDown() override {
    run().torch->copy_engine = nullptr;
    StopDaemon(SIGTERM);
    if (main()) {
      EXPECT_TRUE(base::RemoveTree(base::PosixFileSystem(), folder_));
    }
    ASSERT_TRUE(run().Barrier());
  }

  // Saves go through the staging copier from now on.
  void UseLazyEngine() {
    run().torch->copy_engine = [controls = engine_]() -> base::Result<std::unique_ptr<runtime::CopyEngine>> {
      return std::make_unique<runtime::LazyEngine>(controls);
    };
  }

  void SpawnDaemon() {
    base::SpawnRequest request;
    request.argv = {kBelayd, "--data-dir", folder_ + "/data", "--socket", folder_ + "/s"};
    request.environment = base::WholeEnvironment();
    auto pid = base::PosixProcessSpawner().Spawn(std::move(request));
    ASSERT_TRUE(pid) << pid.error().Text();
    pid_ = *pid;
  }
  // On one rank: as if the daemon was killed and started again by the launcher. Training does not wait for it.
  void ReplaceDaemon() {
    launcher_.reset();
    ::kill(pid_, SIGKILL);
    const auto exit = base::PosixProcessSpawner().Wait(pid_, std::chrono::seconds(60));
    ASSERT_TRUE(exit && *exit) << "belayd does not leave";
    SpawnDaemon();
  }
  void StartDaemon() {
    if (main()) SpawnDaemon();
    BeginRun();
  }
  // Collective: the launcher's part, as soon as the daemon answers.
  void BeginRun() {
    std::string generation;
    if (main()) {
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

  // Collective: waits until the checkpoint of `step` is on the disk.
  void AwaitCommitted(std::int64_t step) {
    if (main()) {
      const auto there = [&] {
        const auto steps = CommittedSteps();
        return std::find(steps.begin(), steps.end(), step) != steps.end();
      };
      for (int attempt = 0; attempt < 3000 && !there(); ++attempt) {
        base::SystemClock().SleepFor(std::chrono::milliseconds(10));
      }
      EXPECT_TRUE(there()) << "step " << step << " is not committed";
    }
    ASSERT_TRUE(run().Barrier());
  }
  std::vector<std::int64_t> CommittedSteps() {
    std::vector<std::int64_t> steps;
    for (const std::string& path : Committed()) {
      const auto parsed = checkpoint::ParseCheckpointDirectoryName(path.substr(path.rfind('/') + 1));
      if (parsed) steps.push_back(parsed->step.value());
    }
    return steps;
  }
  double ShownStallMs() { return base::BitsDouble(run().page()->stall_ms_bits.load()); }

  std::shared_ptr<runtime::LazyEngine::Controls> engine_ = std::make_shared<runtime::LazyEngine::Controls>();
  std::string folder_;
  pid_t pid_ = 0;
  std::unique_ptr<checkpoint::Client> launcher_;
};

using Factory = std::function<std::unique_ptr<torch::optim::Optimizer>(std::vector<at::Tensor>)>;
inline std::unique_ptr<torch::optim::Optimizer> AdamW(std::vector<at::Tensor> parameters) {
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

inline CheckpointOptions Quiet(std::int64_t every = 0) { return {.every = every, .save_at_end = false}; }

}  // namespace belay
