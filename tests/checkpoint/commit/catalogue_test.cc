// Listing, restoring, pinning, removing, retention and reindex in the core.
#include "tests/checkpoint/commit/core_harness.h"

namespace belay::checkpoint::commit {
namespace {

using base::Code;
using base::Generation;
using base::Step;

class CatalogueTest : public testing::Test {
 protected:
  void StartRun(Retention retention) {
    launcher = core.Connect();
    generation = core.BeginRunOf(launcher, 1);
    ranks = {core.AttachRank(0, 1, generation, 8192, retention)};
  }
  std::vector<std::int64_t> StepsListed() {
    std::vector<std::int64_t> steps;
    for (const auto& info : core.Answer<std::vector<CheckpointInfo>>(core.Ask(launcher, ListCheckpoints{}))) {
      steps.push_back(info.id.step.value());
    }
    return steps;
  }

  CoreHarness core;
  ConnectionId launcher = 0;
  Generation generation;
  std::vector<ConnectionId> ranks;
};

TEST_F(CatalogueTest, RetentionDeletesOnlyAfterTheNewerIsCommitted) {
  StartRun({.keep_last = 1});
  core.Save(ranks, 10);
  ASSERT_TRUE(core.Ok(core.Ask(ranks[0], BeginSnapshot{Step(20), ""})));
  ASSERT_TRUE(core.Ok(core.Ask(ranks[0], CoreHarness::SealOf(0, 20))));
  core.FinishWrite();
  EXPECT_EQ(core.Count<DeleteCheckpoint>(), 0U);
  core.FinishManifest();
  const auto order = core.Take<DeleteCheckpoint>();
  ASSERT_TRUE(order);
  EXPECT_EQ(order->id.step, Step(10));
  EXPECT_EQ(StepsListed(), (std::vector<std::int64_t>{20}));
}

TEST_F(CatalogueTest, ARunThatWaitedForACommitAlsoWaitsForWhatItDeletes) {
  StartRun({.keep_last = 1});
  core.Save(ranks, 10);
  ASSERT_TRUE(core.Ok(core.Ask(ranks[0], BeginSnapshot{Step(20), ""})));
  ASSERT_TRUE(core.Ok(core.Ask(ranks[0], CoreHarness::SealOf(0, 20))));
  core.Disconnect(launcher);
  core.Disconnect(ranks[0]);
  launcher = core.Connect();
  core.Ask(launcher, BeginRun{kJob, 1, "host", 78, {}});
  core.FinishWrite();
  core.FinishManifest();
  EXPECT_EQ(core.Count<PersistGeneration>(), 0U) << "its sweep would meet the deletion";
  ASSERT_TRUE(core.FinishDelete());
  EXPECT_EQ(core.Count<PersistGeneration>(), 1U);
}

TEST_F(CatalogueTest, ARestoreHoldsItsCheckpointUntilTheProcessSaves) {
  StartRun({.keep_last = 1});
  core.Save(ranks, 10);
  const auto reader = core.Connect(0, 4321);
  core.Ask(reader, OpenCheckpoint{kJob, Step(10), {}, false, {}});
  core.Save(ranks, 20);
  EXPECT_EQ(core.Count<DeleteCheckpoint>(), 0U);
  // Another connection of the same process begins to save: it has finished loading.
  const auto trainer = core.Connect(0, 4321);
  ASSERT_TRUE(core.Ok(core.Ask(trainer, CoreHarness::AttachOf(0, 1, generation, 8192, {.keep_last = 1}))));
  core.Save({trainer}, 30);
  EXPECT_EQ(core.Count<DeleteCheckpoint>(), 2U);
}

TEST_F(CatalogueTest, AFailedDeletionLeavesTheCheckpointListed) {
  StartRun({.keep_last = 1});
  core.Save(ranks, 10);
  core.Save(ranks, 20);
  core.FinishDelete(base::Error{Code::kIo, "no", nullptr});
  EXPECT_EQ(StepsListed(), (std::vector<std::int64_t>{10, 20}));
}

TEST_F(CatalogueTest, PinnedOnesStay) {
  StartRun({.keep_last = 1});
  core.Save(ranks, 10);
  const auto pin = core.Ask(launcher, PinCheckpoint{kJob, Step(10), {}, true});
  const auto order = core.Take<PersistPin>();
  ASSERT_TRUE(order);
  core.Save(ranks, 20);  // before the pin is on disk
  EXPECT_EQ(core.Count<DeleteCheckpoint>(), 0U);
  core.Send(PinFinished{order->ref, order->job, order->id, true, std::nullopt});
  EXPECT_TRUE(core.Ok(pin));
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, RemoveCheckpoint{kJob, Step(10), {}, false})), Code::kInvalidArgument);
  const auto forced = core.Ask(launcher, RemoveCheckpoint{kJob, Step(10), {}, true});
  core.FinishDelete();
  EXPECT_TRUE(core.Ok(forced));
}

TEST_F(CatalogueTest, AFailedPinLeavesAnEarlierOneStanding) {
  StartRun({.keep_last = 1});
  core.Save(ranks, 10);
  const auto pin = [&](std::optional<base::Error> error) {
    core.Ask(launcher, PinCheckpoint{kJob, Step(10), {}, true});
    const auto order = core.Take<PersistPin>();
    ASSERT_TRUE(order);
    core.Send(PinFinished{order->ref, order->job, order->id, true, std::move(error)});
  };
  pin(base::Error{Code::kIo, "no", nullptr});
  pin(std::nullopt);
  pin(base::Error{Code::kIo, "no", nullptr});
  core.Save(ranks, 20);
  EXPECT_EQ(core.Count<DeleteCheckpoint>(), 0U) << "it is pinned on disk";
  EXPECT_EQ(StepsListed(), (std::vector<std::int64_t>{10, 20}));
}

TEST_F(CatalogueTest, APinThatCouldNotBeStoredDoesNotKeepTheCheckpoint) {
  StartRun({.keep_last = 1});
  core.Save(ranks, 10);
  const auto pin = core.Ask(launcher, PinCheckpoint{kJob, Step(10), {}, true});
  const auto order = core.Take<PersistPin>();
  ASSERT_TRUE(order);
  core.Send(PinFinished{order->ref, order->job, order->id, true, base::Error{Code::kIo, "no", nullptr}});
  EXPECT_EQ(core.CodeOf(pin), Code::kIo);
  core.Save(ranks, 20);
  EXPECT_EQ(core.Count<DeleteCheckpoint>(), 1U);
}

TEST_F(CatalogueTest, TheNewestOnDiskNeedsForceThoughANewerOneIsInMemory) {
  StartRun({.keep_last = 9});
  core.Save(ranks, 10);
  ASSERT_TRUE(core.Ok(core.Ask(ranks[0], BeginSnapshot{Step(20), ""})));
  ASSERT_TRUE(core.Ok(core.Ask(ranks[0], CoreHarness::SealOf(0, 20))));
  core.FinishWrite(base::Error{Code::kNoSpace, "full", nullptr});
  ASSERT_TRUE(core.FinishManifest());
  ASSERT_TRUE(core.FinishDiscard());
  ASSERT_EQ(core.Points().size(), 2U);
  ASSERT_FALSE(core.Points().at(0).committed);
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, RemoveCheckpoint{kJob, Step(10), {}, false})), Code::kInvalidArgument);
  EXPECT_EQ(core.Count<DeleteCheckpoint>(), 0U);
}

TEST_F(CatalogueTest, RemovingNeedsForceForTheNewestAndForOnesInUse) {
  StartRun({.keep_last = 9});
  core.Save(ranks, 10);
  core.Save(ranks, 20);
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, RemoveCheckpoint{kJob, Step(20), {}, false})), Code::kInvalidArgument);
  const auto reader = core.Connect();
  core.Ask(reader, OpenCheckpoint{kJob, Step(10), {}, false, {}});
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, RemoveCheckpoint{kJob, Step(10), {}, false})), Code::kBusy);
  core.Disconnect(reader);
  const auto removal = core.Ask(launcher, RemoveCheckpoint{kJob, Step(10), {}, false});
  EXPECT_FALSE(core.Answered(removal)) << "not before it is gone";
  core.FinishDelete();
  EXPECT_TRUE(core.Ok(removal));
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, RemoveCheckpoint{kJob, Step(10), {}, false})), Code::kNotFound);
}

TEST_F(CatalogueTest, TheNewestGenerationsCheckpointsComeFirst) {
  StartRun({.keep_last = 2});
  core.Save(ranks, 10);
  core.Save(ranks, 20);
  // The next run goes back to step 10 on purpose; its step 15 is what a resume wants, and retention must keep it.
  generation = core.BeginRunOf(launcher, 1, 77, generation);
  ranks = {core.AttachRank(0, 1, generation, 8192, {.keep_last = 2})};
  core.Save(ranks, 15);
  const auto deleted = core.Take<DeleteCheckpoint>();
  ASSERT_TRUE(deleted);
  EXPECT_EQ(deleted->id.step, Step(10));
  EXPECT_EQ(core.Points().at(0).id.step, Step(15));
  EXPECT_EQ(core.Points().at(1).id.step, Step(20));
}

TEST_F(CatalogueTest, OpeningNamesWhatIsMissing) {
  StartRun({});
  core.Save(ranks, 10);
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, OpenCheckpoint{{"default", "none"}, Step(10), {}, false, {}})),
            Code::kNotFound);
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, OpenCheckpoint{kJob, Step(11), {}, false, {}})), Code::kNotFound);
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, OpenCheckpoint{kJob, Step(10), Generation(9), false, {}})), Code::kNotFound);
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, OpenCheckpoint{kJob, Step(10), {}, true, {"x"}})), Code::kNotFound);
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, OpenCheckpoint{kJob, Step(10), {}, false, std::vector<std::string>(65)})),
            Code::kLimitExceeded);
  EXPECT_TRUE(core.Points({"default", "none"}).empty());
}

TEST_F(CatalogueTest, MemoryHoldsShardsAndRecords) {
  StartRun({});
  core.Save(ranks, 10);
  core.Ask(launcher,
           OpenCheckpoint{kJob, Step(10), {}, true, {"rank-00000.state.json", "rank-00000.model.safetensors"}});
  const auto order = core.Take<OpenFromMemory>();
  ASSERT_TRUE(order);
  EXPECT_EQ(order->manifest, "{manifest}");
  ASSERT_EQ(order->files.size(), 2U);
  EXPECT_EQ(*order->files[0].records, "{}");
  EXPECT_EQ(order->files[1].records, nullptr);
  EXPECT_EQ(order->files[1].bytes, 4096U);
}

TEST_F(CatalogueTest, AReindexReplacesWhatIsKnownButNeverLowersAGeneration) {
  StartRun({});
  core.Save(ranks, 10);
  const auto request = core.Ask(launcher, Reindex{});
  const auto order = core.Take<RebuildIndex>();
  ASSERT_TRUE(order);
  Catalogue found;
  found[kJob].generation = Generation(0);
  found[kJob].checkpoints[{Generation(1), Step(5)}] = {};
  core.Send(ReindexFinished{order->ref, std::nullopt, found, {"a problem"}});
  EXPECT_EQ(core.Answer<ReindexReport>(request).checkpoints, 1U);
  EXPECT_EQ(core.Answer<ReindexReport>(request).problems.size(), 1U);
  EXPECT_EQ(StepsListed(), (std::vector<std::int64_t>{5}));
  EXPECT_EQ(core.BeginRunOf(launcher, 1, 77, generation), Generation(2));
}

TEST_F(CatalogueTest, StatusCountsRunsAndBytes) {
  StartRun({});
  core.Save(ranks, 10);
  const auto report = core.Answer<StatusReport>(core.Ask(launcher, DaemonStatus{}));
  EXPECT_EQ(report.staging_bytes, 8192U);
  EXPECT_EQ(report.connections, 2U);
  EXPECT_EQ(report.checkpoints, 1U);
  EXPECT_EQ(report.checkpoint_bytes, 100U);
  ASSERT_EQ(report.runs.size(), 1U);
  EXPECT_EQ(report.runs[0].attached, 1);
  EXPECT_EQ(report.runs[0].launcher_pid, 77);
}

}  // namespace
}  // namespace belay::checkpoint::commit
