// Snapshotter and Restorer against the real belayd.
#include <gmock/gmock.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "checkpoint/client/restorer.h"
#include "checkpoint/client/snapshotter.h"
#include "runtime/base/units.h"
#include "tests/checkpoint/client/belayd_process.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using testing::AllOf;
using testing::HasSubstr;

void ExpectRestores(const BelaydProcess& daemon, std::int64_t step, bool from_memory, int world) {
  const auto client = daemon.Connect();
  const auto restorer = Restorer::Open(*client, {{"default", "gpt"}, base::Step(step), {}}, from_memory);
  ASSERT_TRUE(restorer) << restorer.error().Text();
  for (int r = 0; r < world; ++r) {
    SampleRank rank(r, world);
    const auto loaded = (*restorer)->Load(rank.Targets(), 2);
    ASSERT_TRUE(loaded) << loaded.error().Text();
    rank.ExpectIs(step);
  }
  EXPECT_EQ((*restorer)->LoadRecords(base::Rank(0))->at("sampler"), std::to_string(step));
}

class WorldTest : public testing::TestWithParam<int> {};

TEST_P(WorldTest, SavesAndRestoresFromMemoryAndDiskIntoAnyWorld) {
  BelaydProcess daemon(BELAYD_PROGRAM);
  Trainers trainers(daemon, GetParam());
  trainers.Save(10);
  trainers.Save(20);  // the same memory again
  for (const int world : {1, 2, 3}) {
    ExpectRestores(daemon, 20, true, world);
    ExpectRestores(daemon, 20, false, world);
    ExpectRestores(daemon, 10, false, world);
  }
  const auto client = daemon.Connect();
  const auto gone = Restorer::Open(*client, {{"default", "gpt"}, base::Step(10), {}}, true);
  ASSERT_FALSE(gone);  // its memory holds step 20 now
  EXPECT_EQ(gone.error().code, Code::kNotFound);
  const auto points = client->RestorePoints({"default", "gpt"});
  ASSERT_TRUE(points);
  ASSERT_EQ(points->size(), 2U);
  EXPECT_EQ(points->front().step, base::Step(20));
  EXPECT_TRUE(points->front().in_memory);
  EXPECT_EQ(points->front().world_size, GetParam());
}
INSTANTIATE_TEST_SUITE_P(Worlds, WorldTest, testing::Values(1, 2));

// What docs/checkpoints.md says of memory: by rank, each file rounded up to pages; from 2 MiB on it begins at a
// multiple of that, and from 64 MiB on so does the next rank's.
std::uint64_t SmallestBudget(const std::vector<SampleRank>& ranks) {
  std::uint64_t all = 0;
  for (const SampleRank& rank : ranks) {
    std::uint64_t end = 0;
    for (const ShardPlan& plan : rank.plans) {
      end = base::AlignUp(end, plan.FileBytes() < 2 * base::kMiB ? 4 * base::kKiB : 2 * base::kMiB);
      end += base::AlignUp(plan.FileBytes(), 4 * base::kKiB);
    }
    all += base::AlignUp(end, end < 64 * base::kMiB ? 4 * base::kKiB : 2 * base::kMiB);
  }
  return all;
}

std::vector<std::string> WithBudget(std::uint64_t bytes) { return {"--memory-budget", std::to_string(bytes)}; }

TEST(BelaydTest, TheSmallestMemoryBudgetIsEnoughForEverythingAndOneByteLessTakesWaves) {
  std::uint64_t budget = 0;
  {
    std::vector<SampleRank> ranks;
    for (int r = 0; r < 2; ++r) ranks.emplace_back(r, 2);
    budget = SmallestBudget(ranks);
  }
  {
    BelaydProcess daemon(BELAYD_PROGRAM, "", WithBudget(budget));
    {
      Trainers first(daemon, 2);
      first.Save(10);
      first.Save(20);
    }
    Trainers next(daemon, 2);  // another run, in the same memory
    ExpectRestores(daemon, 20, true, 2);
    next.Save(30);
    ExpectRestores(daemon, 30, true, 2);
    ExpectRestores(daemon, 20, false, 2);
    EXPECT_EQ(daemon.Connect()->GetDaemonStatus()->staging_bytes, budget);
  }
  BelaydProcess daemon(BELAYD_PROGRAM, "", WithBudget(budget - 1));
  const SampleRun run(daemon, 2);
  SampleRank zero(0, 2), one(1, 2);
  const auto first = run.MakeSnapshotter(daemon, 0, zero);
  ASSERT_TRUE(first) << first.error().Text();
  const auto second = run.MakeSnapshotter(daemon, 1, one);
  ASSERT_TRUE(second) << second.error().Text();
  EXPECT_FALSE((*first)->InWaves());
  EXPECT_TRUE((*second)->InWaves());
}

TEST(BelaydTest, NamesFileTensorAndOffsetOfDamageOnDiskWhileMemoryIsWell) {
  BelaydProcess daemon(BELAYD_PROGRAM);
  Trainers trainers(daemon, 2);
  trainers.Save(10);
  const std::string folder = daemon.data_dir() + "/default/gpt/step-000000010.gen-1/";
  const std::string flipped = "rank-00000.optimizer.safetensors", shortened = "rank-00001.optimizer.safetensors";
  {
    std::fstream file(folder + flipped, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-100, std::ios::end);
    file.put('?');
  }
  std::filesystem::resize_file(folder + shortened, std::filesystem::file_size(folder + shortened) - 1);
  const std::string removed = "rank-00000.model.safetensors";
  std::filesystem::remove(folder + removed);

  const auto client = daemon.Connect();
  const auto restorer = Restorer::Open(*client, {{"default", "gpt"}, base::Step(10), {}}, false);
  ASSERT_TRUE(restorer) << restorer.error().Text();
  std::string all;
  for (const base::Error& error : (*restorer)->Verify(2)) all += error.Text() + "\n";
  EXPECT_THAT(all, HasSubstr(flipped + " is damaged: the digest of file bytes"));
  EXPECT_THAT(all, HasSubstr(shortened + " is truncated"));
  EXPECT_THAT(all, AllOf(HasSubstr(removed), HasSubstr("tensor optimizer.")));
  SampleRank rank(0, 1);
  EXPECT_FALSE((*restorer)->Load(rank.Targets(), 2));
  ExpectRestores(daemon, 10, true, 1);
}

TEST(BelaydTest, WhatTheDiskRefusedIsRestoredFromMemoryWithItsRecords) {
  BelaydProcess daemon(BELAYD_PROGRAM, "write.after_data=nospace@4");  // three files a save: the second save's first
  Trainers trainers(daemon, 1);
  trainers.Save(10);
  trainers.ranks[0].Become(20);
  Snapshotter& snapshotter = *trainers.snapshotters[0];
  ASSERT_TRUE(snapshotter.Begin(base::Step(20), "interval"));
  ASSERT_TRUE(snapshotter.Copy({}));
  ASSERT_TRUE(snapshotter.Seal({{"sampler", "20"}}, {}, std::nullopt));
  const auto outcome = snapshotter.Wait(base::Step(20), std::chrono::seconds(60));
  ASSERT_TRUE(outcome) << outcome.error().Text();
  EXPECT_EQ(outcome->state, SnapshotState::kFailed);

  const auto points = daemon.Connect()->RestorePoints({"default", "gpt"});
  ASSERT_TRUE(points);
  ASSERT_EQ(points->size(), 2U);
  EXPECT_EQ(points->front().step, base::Step(20));
  EXPECT_TRUE(points->front().in_memory);
  EXPECT_FALSE(points->front().committed);
  ExpectRestores(daemon, 20, true, 1);
  ExpectRestores(daemon, 10, false, 1);
}

// As `belay daemon restart` does: until the next one answers.
void Restart(const BelaydProcess& daemon) {
  const auto admin = daemon.Connect();
  const auto restarted = admin->RestartDaemon();
  ASSERT_TRUE(restarted) << restarted.error().Text();
  ASSERT_TRUE(admin->WaitBroken(std::chrono::seconds(60)));
  const auto report = daemon.Connect()->GetDaemonStatus();
  ASSERT_TRUE(report) << report.error().Text();
  EXPECT_EQ(report->restart.failure, "");
  EXPECT_EQ(report->restart.lost, "");
}

TEST(BelaydTest, TrainersSaveOnOverARestartAndMemoryGivesBackWhatWasSavedBefore) {
  BelaydProcess daemon(BELAYD_PROGRAM);
  Trainers trainers(daemon, 2);
  trainers.Save(10);
  Restart(daemon);
  EXPECT_TRUE(trainers.run.launcher->Broken());
  ExpectRestores(daemon, 10, true, 2);
  trainers.Save(20);
  ExpectRestores(daemon, 20, true, 1);
  ExpectRestores(daemon, 10, false, 2);
}

TEST(BelaydTest, NoSaveFailsAndNothingIsLostHoweverRestartsFallBetweenTheSaves) {
  BelaydProcess daemon(BELAYD_PROGRAM);
  Trainers trainers(daemon, 1);
  std::vector<std::int64_t> saved;
  std::atomic<std::size_t> saves = 0;
  std::atomic<bool> done = false;
  std::thread restarts([&] {
    for (int i = 0; i < 5; ++i) {
      saves.wait(saves);  // the first one after the last restart attaches again
      Restart(daemon);
    }
    done = true;
  });
  Snapshotter& snapshotter = *trainers.snapshotters[0];
  for (std::int64_t step = 1; !done; ++step) {
    trainers.ranks[0].Become(step);
    // As training does: a save that belayd has no time for is put off to the next step.
    const auto begun = snapshotter.Begin(base::Step(step), "interval");
    if (!begun && begun.error().code == Code::kBusy) continue;
    EXPECT_TRUE(begun) << begun.error().Text();
    if (!begun) continue;
    EXPECT_TRUE(snapshotter.Copy({}));
    const auto sealed = snapshotter.Seal({{"sampler", std::to_string(step)}}, {}, std::nullopt);
    EXPECT_TRUE(sealed) << sealed.error().Text();
    const auto outcome = snapshotter.Wait(base::Step(step), std::chrono::seconds(60));
    EXPECT_TRUE(outcome) << outcome.error().Text();
    EXPECT_TRUE(outcome && outcome->state == SnapshotState::kCommitted) << step;
    saved.push_back(step);
    ++saves;
    saves.notify_all();
  }
  restarts.join();
  ASSERT_GE(saved.size(), 5U);
  ExpectRestores(daemon, saved.back(), false, 1);
  ExpectRestores(daemon, saved.back(), true, 1);
}

// A rank whose model is frozen, and what it saves.
struct FrozenTrainer {
  explicit FrozenTrainer(const BelaydProcess& daemon) : run(daemon, 1), rank(0, 1, /*frozen_model=*/true) {
    rank.Become(1);
    auto made = run.MakeSnapshotter(daemon, 0, rank);
    EXPECT_TRUE(made) << made.error().Text();
    if (made) snapshotter = std::move(*made);
  }
  base::Status Copy(std::int64_t step) {
    rank.Become(step, "optimizer");
    BELAY_TRY(snapshotter->Begin(base::Step(step), "interval"));
    return snapshotter->Copy({.frozen_unchanged = true});
  }
  SnapshotOutcome Save(std::int64_t step) {
    const auto copied = Copy(step);
    EXPECT_TRUE(copied) << copied.error().Text();
    EXPECT_TRUE(snapshotter->Seal({}, {}, std::nullopt));
    const auto outcome = snapshotter->Wait(base::Step(step), std::chrono::seconds(60));
    EXPECT_TRUE(outcome) << outcome.error().Text();
    EXPECT_TRUE(outcome && outcome->state == SnapshotState::kCommitted) << step;
    return outcome.value_or(SnapshotOutcome{});
  }
  SampleRun run;
  SampleRank rank;
  std::unique_ptr<Snapshotter> snapshotter;
};

void ExpectFrozenRestore(const BelaydProcess& daemon, std::int64_t step, std::int64_t model_step) {
  const auto client = daemon.Connect();
  for (const bool from_memory : {false, true}) {
    SampleRank fresh(0, 1);  // what is frozen is the saver's business
    const auto restorer = Restorer::Open(*client, {{"default", "gpt"}, base::Step(step), {}}, from_memory);
    if (!restorer && from_memory) continue;  // a newer one is there
    ASSERT_TRUE(restorer) << restorer.error().Text();
    const auto loaded = (*restorer)->Load(fresh.Targets(), 2);
    ASSERT_TRUE(loaded) << loaded.error().Text();
    fresh.ExpectIs(model_step, "model");
    fresh.ExpectIs(step, "optimizer");
  }
}

std::uint64_t FrozenInode(const BelaydProcess& daemon, std::int64_t step) {
  const std::string name = CheckpointDirectoryName(base::Step(step), base::Generation(1));
  const auto info =
      base::PosixFileSystem().Stat(daemon.data_dir() + "/default/gpt/" + name + "/rank-00000.model-frozen.safetensors");
  EXPECT_TRUE(info) << info.error().Text();
  return info ? info->inode : 0;
}

TEST(BelaydTest, FrozenTensorsAreOneFileOfAllCheckpoints) {
  BelaydProcess daemon(BELAYD_PROGRAM);
  FrozenTrainer trainer(daemon);
  for (const std::int64_t step : {10, 20, 30, 40}) trainer.Save(step);  // three are kept: the writer of the file goes
  EXPECT_EQ(FrozenInode(daemon, 30), FrozenInode(daemon, 20));
  EXPECT_EQ(FrozenInode(daemon, 40), FrozenInode(daemon, 20));
  for (const std::int64_t step : {20, 30, 40}) ExpectFrozenRestore(daemon, step, 1);
  daemon.Kill();
  daemon.Start();
  ExpectFrozenRestore(daemon, 40, 1);
}

TEST(BelaydTest, AFrozenFileThatCannotBeLinkedIsWritten) {
  BelaydProcess daemon(BELAYD_PROGRAM, "write.before_link=io@1");
  FrozenTrainer trainer(daemon);
  for (const std::int64_t step : {10, 20, 30}) trainer.Save(step);
  EXPECT_NE(FrozenInode(daemon, 20), FrozenInode(daemon, 10));
  EXPECT_EQ(FrozenInode(daemon, 30), FrozenInode(daemon, 20));
  for (const std::int64_t step : {10, 20, 30}) ExpectFrozenRestore(daemon, step, 1);
}

TEST(BelaydTest, ADeathAtTheLinkLeavesWhatWasCommitted) {
  BelaydProcess daemon(BELAYD_PROGRAM, "write.before_link=kill@1");
  FrozenTrainer trainer(daemon);
  trainer.Save(10);
  ASSERT_TRUE(trainer.Copy(20));
  ASSERT_TRUE(trainer.snapshotter->Seal({}, {}, std::nullopt));
  EXPECT_FALSE(trainer.snapshotter->Wait(base::Step(20), std::chrono::seconds(60)));
  daemon.Kill();  // what is left of it
  daemon.SetFaults("");
  daemon.Start();
  ExpectFrozenRestore(daemon, 10, 1);
  trainer.Save(30);  // copies everything into new memory, and knows its own content again
  EXPECT_EQ(FrozenInode(daemon, 30), FrozenInode(daemon, 10));
  ExpectFrozenRestore(daemon, 30, 1);
}

TEST(BelaydTest, ASaveGoesOnWhileTheDiskWritesTheOneBefore) {
  BelaydProcess daemon(BELAYD_PROGRAM);
  FrozenTrainer trainer(daemon);
  trainer.Save(1);
  const std::uint64_t one_buffer = trainer.snapshotter->StagingBytes();
  std::int64_t step = 1, before = 1, last = 1;
  while (trainer.snapshotter->StagingBytes() == one_buffer) {  // as fast as it goes, until the memory for two is there
    if (const auto copied = trainer.Copy(++step); !copied) {
      ASSERT_EQ(copied.error().code, base::Code::kBusy) << copied.error().Text();
      continue;
    }
    ASSERT_TRUE(trainer.snapshotter->Seal({}, {}, std::nullopt));
    before = std::exchange(last, step);
  }
  for (const std::int64_t saved : {before, last}) {
    const auto outcome = trainer.snapshotter->Wait(base::Step(saved), std::chrono::seconds(60));
    ASSERT_TRUE(outcome) << outcome.error().Text();
    EXPECT_EQ(outcome->state, SnapshotState::kCommitted);
    ExpectFrozenRestore(daemon, saved, 1);
  }
  EXPECT_EQ(FrozenInode(daemon, before), FrozenInode(daemon, last)) << "both buffers hold the same frozen tensors";
}

TEST(BelaydTest, AFrozenFileWhoseCheckpointWasRemovedIsWritten) {
  BelaydProcess daemon(BELAYD_PROGRAM);
  FrozenTrainer trainer(daemon);
  trainer.Save(10);
  ASSERT_TRUE(daemon.Connect()->RemoveCheckpoint({{"default", "gpt"}, base::Step(10), {}}, true));
  trainer.Save(20);
  ExpectFrozenRestore(daemon, 20, 1);
}

TEST(BelaydTest, AFrozenTensorThatChangedAllTheSameIsFoundAndSavedTheNextTime) {
  BelaydProcess daemon(BELAYD_PROGRAM);
  FrozenTrainer trainer(daemon);
  trainer.Save(10);
  trainer.rank.Become(2, "model");
  const auto copied = trainer.Copy(20);
  ASSERT_FALSE(copied);
  EXPECT_EQ(copied.error().code, Code::kSnapshotTorn);
  EXPECT_THAT(copied.error().Text(), HasSubstr("rank-00000.model-frozen.safetensors were written to"));
  trainer.Save(30);
  trainer.rank.Become(3, "model");  // believed no more: copied each time
  trainer.Save(40);
  ExpectFrozenRestore(daemon, 10, 1);
  ExpectFrozenRestore(daemon, 30, 2);
  ExpectFrozenRestore(daemon, 40, 3);
}

TEST(BelaydTest, FrozenTensorsOfASaveThatWasGivenUpAreNotReused) {
  BelaydProcess daemon(BELAYD_PROGRAM);
  FrozenTrainer trainer(daemon);
  ASSERT_TRUE(trainer.Copy(10));  // and never sealed: its header was not written
  trainer.Save(20);
  trainer.Save(30);
  ExpectFrozenRestore(daemon, 20, 1);
  ExpectFrozenRestore(daemon, 30, 1);
}

TEST(BelaydTest, AttachesAgainAfterTheDaemonWasKilled) {
  BelaydProcess daemon(BELAYD_PROGRAM);
  Trainers trainers(daemon, 2);
  trainers.Save(10);
  daemon.Kill();
  const auto begun = trainers.snapshotters[0]->Begin(base::Step(20), "interval");
  ASSERT_FALSE(begun);  // nobody answers: this save is lost, not the training
  EXPECT_EQ(begun.error().code, Code::kUnavailable);
  daemon.Start();
  trainers.Save(30);
  ExpectRestores(daemon, 30, true, 2);
  ExpectRestores(daemon, 10, false, 1);
}

TEST(BelaydTest, LooksUpWhetherAStepWasCommittedWhenTheDaemonWentAway) {
  BelaydProcess daemon(BELAYD_PROGRAM);
  Trainers trainers(daemon, 1);
  trainers.Save(10);
  daemon.Kill();
  EXPECT_EQ(trainers.snapshotters[0]->Wait(base::Step(10), std::chrono::seconds(1)).error().code, Code::kUnavailable);
  daemon.Start();
  const auto outcome = trainers.snapshotters[0]->Wait(base::Step(10), std::chrono::seconds(1));
  ASSERT_TRUE(outcome) << outcome.error().Text();
  EXPECT_EQ(outcome->state, SnapshotState::kCommitted);
  EXPECT_EQ(trainers.snapshotters[0]->Wait(base::Step(11), std::chrono::seconds(1)).error().code, Code::kUnavailable);
}

TEST(BelaydTest, GivesUpASnapshotWhoseStateChanged) {
  BelaydProcess daemon(BELAYD_PROGRAM);
  Trainers trainers(daemon, 1);
  Snapshotter& snapshotter = *trainers.snapshotters[0];
  ASSERT_TRUE(snapshotter.Begin(base::Step(5), "interval"));
  const auto torn = snapshotter.Copy({.unchanged = [] { return false; }});
  ASSERT_FALSE(torn);
  EXPECT_EQ(torn.error().code, Code::kSnapshotTorn);
  trainers.Save(6);  // the next one is not in its way
  const auto points = daemon.Connect()->RestorePoints({"default", "gpt"});
  ASSERT_EQ(points->size(), 1U);
  EXPECT_EQ(points->front().step, base::Step(6));
}

TEST(BelaydTest, ABeginAfterAnUnsealedOneGivesThatUp) {
  BelaydProcess daemon(BELAYD_PROGRAM);
  Trainers trainers(daemon, 1);
  ASSERT_TRUE(trainers.snapshotters[0]->Begin(base::Step(5), "interval"));
  ASSERT_TRUE(trainers.snapshotters[0]->Copy({}));
  trainers.Save(6);
  ExpectRestores(daemon, 6, false, 1);
}

TEST(BelaydTest, AnOlderRunCannotSave) {
  BelaydProcess daemon(BELAYD_PROGRAM);
  Trainers old(daemon, 1);
  old.Save(1);
  old.run.launcher.reset();
  const SampleRun newer(daemon, 1);
  EXPECT_GT(newer.generation, old.run.generation);
  const auto begun = old.snapshotters[0]->Begin(base::Step(2), "interval");
  ASSERT_FALSE(begun);
  EXPECT_EQ(begun.error().code, Code::kStaleGeneration);
}

}  // namespace
}  // namespace belay::checkpoint
