// The real belayd, for one test: its own data directory and socket, gone at the end.
#pragma once

#include <gtest/gtest.h>

#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/client/client.h"
#include "runtime/base/environment.h"
#include "runtime/base/process_spawner.h"
#include "tests/checkpoint/client/sample_state.h"

namespace belay::checkpoint {

class BelaydProcess {
 public:
  // `program`: the path of belayd. `faults`: what BELAY_FAULTS shall say. `arguments`: besides the data directory and
  // the socket.
  explicit BelaydProcess(std::string program, std::string faults = "", std::vector<std::string> arguments = {})
      : program_(std::move(program)), faults_(std::move(faults)), arguments_(std::move(arguments)) {
    Start();
  }
  ~BelaydProcess() { Kill(); }

  void Start() {
    base::SpawnRequest request;
    request.argv = {program_, "--data-dir", data_dir(), "--socket", socket()};
    request.argv.insert(request.argv.end(), arguments_.begin(), arguments_.end());
    request.environment = base::WholeEnvironment();
    request.environment["BELAY_FAULTS"] = faults_;
    auto pid = base::PosixProcessSpawner().Spawn(std::move(request));
    ASSERT_TRUE(pid) << pid.error().Text();
    pid_ = *pid;
    // Its socket answers when it is ready; the wait below is for its end, so it costs nothing else.
    while (!base::PosixProcessSpawner().Wait(pid_, std::chrono::milliseconds(5)).value()) {
      if (Client::Connect(base::UnixTransport(), socket(), "test")) return;
    }
    FAIL() << "belayd ended at once";
  }

  // Of the next Start.
  void SetFaults(std::string faults) { faults_ = std::move(faults); }

  // SIGKILL, and gone when this returns.
  void Kill() {
    if (pid_ == 0) return;
    base::IgnoreError(base::PosixProcessSpawner().SignalGroup(pid_, SIGKILL), "it may have ended");
    base::IgnoreError(base::PosixProcessSpawner().Wait(pid_, std::nullopt), "likewise");
    pid_ = 0;
  }

  std::unique_ptr<Client> Connect() const {
    auto client = Client::Connect(base::UnixTransport(), socket(), "test");
    EXPECT_TRUE(client) << client.error().Text();
    return client ? std::move(*client) : nullptr;
  }

  std::string data_dir() const { return scratch_.path() + "/data"; }
  std::string socket() const { return scratch_.path() + "/s"; }

 private:
  std::string program_, faults_;
  std::vector<std::string> arguments_;
  ScratchFolder scratch_;
  pid_t pid_ = 0;
};

// A run's launcher: holds the job and its generation.
struct SampleRun {
  SampleRun(const BelaydProcess& daemon, int world_size) : launcher(daemon.Connect()), world(world_size) {
    auto grant = launcher->BeginRun(job, world);
    EXPECT_TRUE(grant) << grant.error().Text();
    if (grant) generation = grant->generation;
  }

  base::Result<std::unique_ptr<Snapshotter>> MakeSnapshotter(const BelaydProcess& daemon, int rank,
                                                             SampleRank& state) const {
    SnapshotterOptions options;
    options.socket = daemon.socket();
    options.attach.job = job;
    options.attach.generation = generation;
    options.attach.rank = base::Rank(rank);
    options.attach.world_size = world;
    options.identity = {job.project, job.job, base::Step(0), generation, base::Rank(rank), world};
    options.threads = 2;
    return Snapshotter::Create(base::UnixTransport(), base::SystemClock(), MakeMemoryCopier(), std::move(options),
                               state.fingerprint, state.plans, state.sources);
  }

  JobKey job{"default", "gpt"};
  std::unique_ptr<Client> launcher;
  int world;
  base::Generation generation;
};

// Saves `step` on every rank and waits until it is committed.
inline void SaveAll(std::vector<std::unique_ptr<Snapshotter>>& snapshotters, std::vector<SampleRank>& ranks,
                    std::int64_t step) {
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    ranks[r].Become(step);
    const auto begun = snapshotters[r]->Begin(base::Step(step), "interval");
    ASSERT_TRUE(begun) << begun.error().Text();
    ASSERT_TRUE(snapshotters[r]->Copy({.unchanged = [] { return true; }}));
    ranks[r].Become(step + 1000);  // training goes on
    const auto sealed = snapshotters[r]->Seal({{"sampler", std::to_string(step)}}, {{"loss", 0.5}}, std::nullopt);
    ASSERT_TRUE(sealed) << sealed.error().Text();
  }
  for (auto& snapshotter : snapshotters) {
    const auto outcome = snapshotter->Wait(base::Step(step), std::chrono::seconds(60));
    ASSERT_TRUE(outcome) << outcome.error().Text();
    ASSERT_EQ(outcome->state, SnapshotState::kCommitted)
        << (outcome->failure ? outcome->failure->Text() : std::string("no reason given"));
  }
}

// `count` attached ranks of one run.
struct Trainers {
  Trainers(const BelaydProcess& daemon, int count) : run(daemon, count) {
    ranks.reserve(static_cast<std::size_t>(count));
    for (int r = 0; r < count; ++r) {
      ranks.emplace_back(r, count);
      auto made = run.MakeSnapshotter(daemon, r, ranks.back());
      EXPECT_TRUE(made) << made.error().Text();
      snapshotters.push_back(made ? std::move(*made) : nullptr);
    }
  }
  void Save(std::int64_t step) { SaveAll(snapshotters, ranks, step); }

  SampleRun run;
  std::vector<SampleRank> ranks;
  std::vector<std::unique_ptr<Snapshotter>> snapshotters;
};

}  // namespace belay::checkpoint
