// A snapshot's way to its commit or failure.
#include "tests/checkpoint/commit/core_harness.h"

namespace belay::checkpoint::commit {
namespace {

using base::Code;
using base::Error;
using base::Generation;
using base::Step;
using std::chrono::milliseconds;

class SnapshotsTest : public testing::Test {
 protected:
  void SetUp() override { StartRun(2); }
  void StartRun(std::int32_t world, Retention retention = {}) {
    launcher = core.Connect();
    generation = core.BeginRunOf(launcher, world);
    ranks.clear();
    for (int rank = 0; rank < world; ++rank) {
      ranks.push_back(core.AttachRank(rank, world, generation, 8192, retention));
    }
  }
  std::uint64_t Begin(int rank, std::int64_t step) {
    return core.Ask(ranks[rank], BeginSnapshot{Step(step), "interval"});
  }
  std::uint64_t Seal(int rank, std::int64_t step) { return core.Ask(ranks[rank], CoreHarness::SealOf(rank, step)); }
  SnapshotState StateOf(int rank, std::int64_t step) { return core.OutcomeNow(ranks[rank], step).state; }

  CoreHarness core;
  ConnectionId launcher = 0;
  Generation generation;
  std::vector<ConnectionId> ranks;
};

TEST_F(SnapshotsTest, CommitsWhenEveryRankIsPrepared) {
  ASSERT_TRUE(core.Ok(Begin(0, 10)));
  ASSERT_TRUE(core.Ok(Begin(1, 10)));
  EXPECT_EQ(StateOf(0, 10), SnapshotState::kFilling);
  ASSERT_TRUE(core.Ok(Seal(0, 10)));
  EXPECT_EQ(StateOf(0, 10), SnapshotState::kSealed);
  core.FinishWrite();
  EXPECT_EQ(StateOf(0, 10), SnapshotState::kPrepared);
  EXPECT_EQ(core.Count<PublishManifest>(), 0U) << "rank 1 has not sealed";
  ASSERT_TRUE(core.Ok(Seal(1, 10)));
  EXPECT_EQ(core.Count<PublishManifest>(), 0U) << "rank 1 is not written";
  core.FinishWrite();
  ASSERT_EQ(core.Count<PublishManifest>(), 1U);
  EXPECT_NE(StateOf(0, 10), SnapshotState::kCommitted);
  core.FinishManifest();
  EXPECT_EQ(StateOf(0, 10), SnapshotState::kCommitted);
  EXPECT_EQ(StateOf(1, 10), SnapshotState::kCommitted);
  EXPECT_EQ(core.OutcomeNow(ranks[0], 10).bytes, 4098U);
}

TEST_F(SnapshotsTest, AnUnchangedFileIsLookedForInTheNewestCommittedCheckpoint) {
  const auto seal_all = [&](std::int64_t step) {
    for (int rank : {0, 1}) {
      Begin(rank, step);
      SealSnapshot seal = CoreHarness::SealOf(rank, step);
      if (step > 10) seal.files[0].origin = StepAndGeneration{Step(10), generation};
      EXPECT_TRUE(core.Ok(core.Ask(ranks[rank], seal)));
    }
    const auto write = core.Take<StartWrite>();
    core.Send(WriteFinished{kJob, write->id, write->rank, std::nullopt, {{}}, 0});
    core.FinishWrite();
    core.FinishManifest();
    return write->previous;
  };
  EXPECT_EQ(seal_all(10), std::nullopt);
  EXPECT_EQ(seal_all(20), (CheckpointId{generation, Step(10)}));
  EXPECT_EQ(seal_all(30), (CheckpointId{generation, Step(20)})) << "one link to the next, so that the first may go";
}

TEST_F(SnapshotsTest, AFileCannotBeOfALaterSave) {
  Begin(0, 10);
  SealSnapshot seal = CoreHarness::SealOf(0, 10);
  seal.files[0].origin = StepAndGeneration{Step(10), generation};
  EXPECT_EQ(core.CodeOf(core.Ask(ranks[0], seal)), Code::kInvalidArgument);
}

TEST_F(SnapshotsTest, RanksMayPassEachOther) {
  ASSERT_TRUE(core.Ok(Begin(1, 10)));
  ASSERT_TRUE(core.Ok(Seal(1, 10)));
  core.FinishWrite();
  ASSERT_TRUE(core.Ok(Begin(0, 10)));  // after rank 1 is on disk
  ASSERT_TRUE(core.Ok(Seal(0, 10)));
  core.FinishWrite();
  EXPECT_TRUE(core.FinishManifest());
  EXPECT_EQ(core.Points().size(), 1U);
}

TEST_F(SnapshotsTest, RepeatedRequestsChangeNothing) {
  EXPECT_TRUE(core.Ok(Begin(0, 10)));
  EXPECT_TRUE(core.Ok(Begin(0, 10)));
  EXPECT_TRUE(core.Ok(Seal(0, 10)));
  EXPECT_TRUE(core.Ok(Seal(0, 10)));
  EXPECT_EQ(core.Count<StartWrite>(), 1U) << "written once";
  EXPECT_EQ(core.CodeOf(Begin(0, 10)), Code::kBusy) << "sealed memory is not given away";
  Begin(1, 10);
  Seal(1, 10);
  while (core.FinishWrite()) {
  }
  core.FinishManifest();
  EXPECT_TRUE(core.Ok(Seal(0, 10))) << "a seal repeated after the commit";
  EXPECT_EQ(core.CodeOf(Begin(0, 10)), Code::kAlreadyExists);
}

TEST_F(SnapshotsTest, AllRanksGetTheSameAnswerForAStep) {
  core.Ask(ranks[0], BeginSnapshot{Step(10), ""});
  Begin(1, 10);
  Seal(0, 10);
  Seal(1, 10);
  EXPECT_EQ(core.CodeOf(Begin(0, 20)), Code::kBusy);
  while (core.FinishWrite()) {
  }
  core.FinishManifest();
  // Step 10 is committed now, but rank 0 skips step 20 already: so must rank 1.
  EXPECT_EQ(core.CodeOf(Begin(1, 20)), Code::kBusy);
  // Those who try again get a fresh answer.
  EXPECT_TRUE(core.Ok(Begin(0, 20)));
  EXPECT_TRUE(core.Ok(Begin(1, 20)));
}

TEST_F(SnapshotsTest, AnAbandonedStepIsRefusedToThoseWhoComeLate) {
  Begin(0, 10);
  EXPECT_TRUE(core.Ok(core.Ask(ranks[0], AbandonSnapshot{Step(10), "torn"})));
  EXPECT_TRUE(core.FinishDiscard());
  const auto late = Begin(1, 10);
  EXPECT_EQ(core.CodeOf(late), Code::kCancelled);
  EXPECT_NE(core.Answer<Error>(late).message.find("torn"), std::string::npos);
  EXPECT_TRUE(core.Ok(Begin(0, 11)));
}

TEST_F(SnapshotsTest, ALateSealAfterAnAbandonIsRefusedAndWritesNothing) {
  Begin(0, 10);
  Begin(1, 10);
  core.Ask(ranks[0], AbandonSnapshot{Step(10), "torn"});
  EXPECT_EQ(core.CodeOf(Seal(1, 10)), Code::kCancelled);
  EXPECT_EQ(core.Count<StartWrite>(), 0U);
}

TEST_F(SnapshotsTest, AFailureWaitsForRunningWritesBeforeFilesAreRemoved) {
  Begin(0, 10);
  Begin(1, 10);
  Seal(0, 10);
  core.Ask(ranks[1], AbandonSnapshot{Step(10), "torn"});
  EXPECT_EQ(core.Count<DiscardFiles>(), 0U) << "rank 0 is being written";
  EXPECT_EQ(core.CodeOf(Begin(0, 11)), Code::kBusy);
  core.FinishWrite();
  EXPECT_TRUE(core.FinishDiscard());
  EXPECT_EQ(StateOf(0, 10), SnapshotState::kFailed);
  EXPECT_TRUE(core.Ok(Begin(1, 12)));
}

TEST_F(SnapshotsTest, AWriteFailureFailsTheSnapshotWithItsReasonAndTheNextSaveWorks) {
  Begin(0, 10);
  Begin(1, 10);
  Seal(0, 10);
  Seal(1, 10);
  const auto wait = core.Ask(ranks[0], WaitSnapshot{Step(10), 60000});
  core.FinishWrite(Error{Code::kIo, "the disk is broken", nullptr});
  core.FinishWrite();
  EXPECT_FALSE(core.Answered(wait)) << "not before its files are gone";
  EXPECT_TRUE(core.FinishManifest()) << "the memory is whole";
  EXPECT_TRUE(core.FinishDiscard());
  const auto outcome = core.Answer<SnapshotOutcome>(wait);
  EXPECT_EQ(outcome.state, SnapshotState::kFailed);
  EXPECT_EQ(outcome.failure->message, "the disk is broken");
  core.Save(ranks, 20);
  EXPECT_EQ(StateOf(0, 20), SnapshotState::kCommitted);
}

TEST_F(SnapshotsTest, WhatIsWholeInMemoryIsRestorableThoughTheDiskFailed) {
  core.Save(ranks, 10);
  Begin(0, 20);
  Begin(1, 20);
  Seal(0, 20);
  Seal(1, 20);
  core.FinishWrite(Error{Code::kNoSpace, "full", nullptr});
  core.FinishWrite();
  const auto publish = core.Take<PublishManifest>();
  ASSERT_TRUE(publish);
  EXPECT_TRUE(publish->memory_only);
  core.Send(ManifestFinished{kJob, publish->id, std::nullopt, "{manifest}", {}});
  core.FinishDiscard();
  const auto points = core.Points();
  ASSERT_EQ(points.size(), 2U);
  EXPECT_EQ(points[0].id.step, Step(20));
  EXPECT_TRUE(points[0].in_memory);
  EXPECT_FALSE(points[0].committed) << "it would be gone with the daemon";
  EXPECT_FALSE(points[1].in_memory);
  EXPECT_TRUE(points[1].committed);
  const auto opened = core.Ask(ranks[0], OpenCheckpoint{kJob, Step(20), {}, true, {"rank-00001.model.safetensors"}});
  EXPECT_FALSE(core.Answered(opened));
  EXPECT_EQ(core.Take<OpenFromMemory>()->files.at(0).rank, base::Rank(1));
  EXPECT_EQ(core.CodeOf(core.Ask(ranks[0], OpenCheckpoint{kJob, Step(20), {}, false, {}})), Code::kNotFound);
  EXPECT_EQ(core.BeginRunOf(launcher, 2, 77, generation), Generation(2));
  EXPECT_EQ(core.Points().at(0).id.step, Step(20)) << "a restart finds it";
}

TEST_F(SnapshotsTest, RanksMayStillSealIntoMemoryAfterTheDiskFailedAnother) {
  Begin(0, 10);
  Seal(0, 10);
  EXPECT_FALSE(core.Take<StartWrite>()->inspect_only);
  WriteFinished failed{kJob, {generation, Step(10)}, base::Rank(0), Error{Code::kNoSpace, "full", nullptr}, {{}}, 0};
  core.Send(failed);
  EXPECT_EQ(core.Count<DiscardFiles>(), 0U) << "rank 1 is not through";
  ASSERT_TRUE(core.Ok(Begin(1, 10)));
  ASSERT_TRUE(core.Ok(Seal(1, 10)));
  const auto write = core.Take<StartWrite>();
  ASSERT_TRUE(write);
  EXPECT_TRUE(write->inspect_only) << "no bytes for a snapshot that fails anyway";
  core.Send(WriteFinished{kJob, write->id, write->rank, std::nullopt, {{}}, 0});
  ASSERT_EQ(core.Count<PublishManifest>(), 1U);
  EXPECT_TRUE(core.FinishManifest());
  EXPECT_TRUE(core.FinishDiscard());
  EXPECT_EQ(core.OutcomeNow(ranks[1], 10).failure->code, Code::kNoSpace);
  ASSERT_EQ(core.Points().size(), 1U);
  EXPECT_TRUE(core.Points()[0].in_memory);
}

TEST_F(SnapshotsTest, AfterADiskFailureADyingRankDoesNotHideTheCause) {
  Begin(0, 10);
  Begin(1, 10);
  Seal(0, 10);
  core.FinishWrite(Error{Code::kNoSpace, "full", nullptr});
  core.Disconnect(ranks[1]);
  EXPECT_TRUE(core.FinishDiscard());
  EXPECT_EQ(core.OutcomeNow(ranks[0], 10).failure->code, Code::kNoSpace);
  EXPECT_TRUE(core.Points().empty());
}

TEST_F(SnapshotsTest, BadHeadersAreNotRestorableFromMemory) {
  Begin(0, 10);
  Begin(1, 10);
  Seal(0, 10);
  Seal(1, 10);
  core.FinishWrite(Error{Code::kCorrupt, "header", nullptr}, false);
  core.FinishWrite();
  EXPECT_EQ(core.Count<PublishManifest>(), 0U);
  EXPECT_TRUE(core.FinishDiscard());
  EXPECT_TRUE(core.Points().empty());
}

TEST_F(SnapshotsTest, AManifestThatCannotBeStoredFailsTheSnapshot) {
  Begin(0, 10);
  Begin(1, 10);
  Seal(0, 10);
  Seal(1, 10);
  while (core.FinishWrite()) {
  }
  core.FinishManifest(Error{Code::kNoSpace, "full", nullptr});
  EXPECT_TRUE(core.FinishDiscard());
  EXPECT_EQ(StateOf(0, 10), SnapshotState::kFailed);
  ASSERT_EQ(core.Points().size(), 1U);
  EXPECT_TRUE(core.Points()[0].in_memory);
}

TEST_F(SnapshotsTest, ARankThatDiesWhileFillingDiscardsTheSnapshot) {
  Begin(0, 10);
  Begin(1, 10);
  Seal(0, 10);
  core.FinishWrite();
  core.Disconnect(ranks[1]);
  EXPECT_TRUE(core.FinishDiscard());
  const auto outcome = core.OutcomeNow(ranks[0], 10);
  EXPECT_EQ(outcome.state, SnapshotState::kFailed);
  EXPECT_NE(outcome.failure->message.find("rank 1"), std::string::npos);
}

TEST_F(SnapshotsTest, SealedByAllGoesOnThoughEveryRankDies) {
  Begin(0, 10);
  Begin(1, 10);
  Seal(0, 10);
  Seal(1, 10);
  core.Disconnect(ranks[0]);
  core.Disconnect(ranks[1]);
  core.Disconnect(launcher);
  while (core.FinishWrite()) {
  }
  EXPECT_TRUE(core.FinishManifest());
  EXPECT_EQ(core.Points().size(), 1U);
}

TEST_F(SnapshotsTest, WhenAllRanksAreGoneAnIncompleteSnapshotIsGivenUp) {
  Begin(0, 10);
  Seal(0, 10);
  core.FinishWrite();
  core.Disconnect(ranks[1]);  // it had not begun: it may come back
  EXPECT_EQ(core.Count<DiscardFiles>(), 0U);
  core.Disconnect(ranks[0]);
  EXPECT_EQ(core.Count<DiscardFiles>(), 1U);
}

TEST_F(SnapshotsTest, ARankThatCameBackMayStillJoin) {
  Begin(0, 10);
  Seal(0, 10);
  core.FinishWrite();
  core.Disconnect(ranks[1]);
  ranks[1] = core.AttachRank(1, 2, generation);
  EXPECT_TRUE(core.Ok(Begin(1, 10)));
  EXPECT_TRUE(core.Ok(Seal(1, 10)));
  core.FinishWrite();
  EXPECT_TRUE(core.FinishManifest());
}

TEST_F(SnapshotsTest, ANewerConnectionOfTheSameRankTakesOver) {
  Begin(1, 10);
  const auto old = ranks[1];
  ranks[1] = core.AttachRank(1, 2, generation);
  EXPECT_TRUE(core.FinishDiscard()) << "what the old one was filling";
  EXPECT_EQ(core.CodeOf(core.Ask(old, CoreHarness::SealOf(1, 10))), Code::kInvalidArgument);
  core.Disconnect(old);
  core.Save(ranks, 11);
}

TEST_F(SnapshotsTest, ARankThatMovesOnEndsASnapshotThatCannotBeComplete) {
  Begin(0, 10);
  Seal(0, 10);
  core.FinishWrite();
  EXPECT_EQ(core.CodeOf(Begin(1, 20)), Code::kBusy) << "rank 1 never sealed step 10";
  EXPECT_TRUE(core.FinishDiscard());
  EXPECT_EQ(core.CodeOf(Begin(0, 20)), Code::kBusy) << "the same answer";
  core.Save(ranks, 30);
}

TEST_F(SnapshotsTest, EndRunGivesUpWhatNotAllHaveSealed) {
  Begin(0, 10);
  Seal(0, 10);
  EXPECT_TRUE(core.Ok(core.Ask(launcher, EndRun{kJob, generation, "failed"})));
  core.FinishWrite();
  EXPECT_TRUE(core.FinishDiscard());
}

TEST_F(SnapshotsTest, BeginRunWaitsForASealedSnapshotToCommit) {
  Begin(0, 10);
  Begin(1, 10);
  Seal(0, 10);
  Seal(1, 10);
  core.Disconnect(ranks[0]);
  core.Disconnect(ranks[1]);
  const auto again = core.Ask(launcher, BeginRun{kJob, 2, "host", 77, generation});
  EXPECT_EQ(core.Count<PersistGeneration>(), 0U);
  while (core.FinishWrite()) {
  }
  core.FinishManifest();
  core.Persist();
  EXPECT_EQ(core.Answer<RunGrant>(again).newest_step, Step(10));
}

TEST_F(SnapshotsTest, BeginRunDiscardsWhatNotAllHaveSealed) {
  Begin(0, 10);
  Begin(1, 10);
  Seal(0, 10);
  const auto again = core.Ask(launcher, BeginRun{kJob, 2, "host", 77, generation});
  EXPECT_EQ(core.Count<PersistGeneration>(), 0U) << "rank 0 is still being written";
  core.FinishWrite();
  EXPECT_TRUE(core.FinishDiscard());
  core.Persist();
  EXPECT_FALSE(core.Answer<RunGrant>(again).newest_step.has_value());
}

TEST_F(SnapshotsTest, ALauncherThatGivesUpWaitingDoesNotHoldTheJob) {
  Begin(0, 10);
  Begin(1, 10);
  Seal(0, 10);
  Seal(1, 10);
  core.Ask(launcher, BeginRun{kJob, 2, "host", 77, generation});
  core.Disconnect(launcher);
  while (core.FinishWrite()) {
  }
  core.FinishManifest();
  core.Persist();
  EXPECT_EQ(core.BeginRunOf(core.Connect(), 2, 5), Generation(3));
}

TEST_F(SnapshotsTest, AnotherLauncherMayBeginWhereOneGaveUpWaitingForAnOldWrite) {
  Begin(0, 10);
  Begin(1, 10);
  Seal(0, 10);
  Seal(1, 10);
  core.Ask(launcher, BeginRun{kJob, 2, "host", 77, generation});
  core.Disconnect(launcher);
  const auto other = core.Ask(core.Connect(), BeginRun{kJob, 2, "host", 5, {}});
  EXPECT_FALSE(core.Answered(other)) << "the snapshot is still being written";
  const auto third = core.Ask(core.Connect(), BeginRun{kJob, 2, "host", 6, {}});
  EXPECT_EQ(core.CodeOf(third), Code::kJobBusy) << "the second is there and waits";
  while (core.FinishWrite()) {
  }
  core.FinishManifest();
  core.Persist();
  EXPECT_EQ(core.Answer<RunGrant>(other).generation, Generation(2));
}

TEST_F(SnapshotsTest, WaitingEndsAtItsDeadlineWithTheStateSoFar) {
  Begin(0, 10);
  Begin(1, 10);
  Seal(0, 10);
  const auto wait = core.Ask(ranks[0], WaitSnapshot{Step(10), 500});
  EXPECT_EQ(core.core().NextDeadline(), core.now + milliseconds(500));
  core.now += milliseconds(499);
  core.Send(Tick{});
  EXPECT_FALSE(core.Answered(wait));
  core.now += milliseconds(1);
  core.Send(Tick{});
  EXPECT_EQ(core.Answer<SnapshotOutcome>(wait).state, SnapshotState::kSealed);
  EXPECT_EQ(core.CodeOf(core.Ask(ranks[0], WaitSnapshot{Step(99), 500})), Code::kNotFound);
}

TEST_F(SnapshotsTest, AWaiterThatDisconnectsIsForgotten) {
  Begin(0, 10);
  Begin(1, 10);
  core.Ask(ranks[0], WaitSnapshot{Step(10), 500});
  Seal(0, 10);
  core.Disconnect(ranks[0]);
  EXPECT_FALSE(core.core().NextDeadline());
}

TEST_F(SnapshotsTest, SealsThatLieAreRefused) {
  const auto seal_with = [&](std::vector<SealedFile> files) {
    Begin(0, 10);
    SealSnapshot seal = CoreHarness::SealOf(0, 10);
    seal.files = std::move(files);
    const auto code = core.CodeOf(core.Ask(ranks[0], seal));
    core.FinishDiscard();
    return code;
  };
  const std::string good = "rank-00000.model.safetensors";
  EXPECT_EQ(seal_with({{"rank-00001.model.safetensors", 0, 4096}}), Code::kInvalidArgument) << "another rank's";
  EXPECT_EQ(seal_with({{"rank-00000./../../etc/x.safetensors", 0, 4096}}), Code::kInvalidArgument);
  EXPECT_EQ(seal_with({{"manifest.json", 0, 4096}}), Code::kInvalidArgument);
  EXPECT_EQ(seal_with({{good, 0, 4096}, {good, 4096, 4096}}), Code::kInvalidArgument) << "twice";
  EXPECT_EQ(seal_with({{good, 100, 4096}}), Code::kInvalidArgument) << "not on a page";
  EXPECT_EQ(seal_with({{good, 4096, 8192}}), Code::kInvalidArgument) << "beyond the end";
  EXPECT_EQ(seal_with({{good, ~0ULL << 12, 8192}}), Code::kInvalidArgument) << "an overflow";
  EXPECT_EQ(seal_with({{good, 0, 8192}, {"rank-00000.optimizer.safetensors", 4096, 4096}}), Code::kInvalidArgument);
  EXPECT_EQ(seal_with(std::vector<SealedFile>(65, {good, 0, 8})), Code::kLimitExceeded);
  EXPECT_EQ(core.Count<StartWrite>(), 0U);
}

TEST_F(SnapshotsTest, NoSpaceIsSaidBeforeAnyByteIsCopiedAndToAllRanks) {
  core.disk_available = 2 * 8192 + 999;
  const auto first = Begin(0, 10);
  EXPECT_EQ(core.CodeOf(first), Code::kNoSpace);
  EXPECT_NE(core.Answer<Error>(first).message.find("16.0 KiB"), std::string::npos) << "what all ranks need";
  core.disk_available = 1 << 30;
  EXPECT_EQ(core.CodeOf(Begin(1, 10)), Code::kNoSpace);
  EXPECT_TRUE(core.Ok(Begin(1, 20)));
  EXPECT_TRUE(core.Ok(Begin(0, 20)));
}

TEST_F(SnapshotsTest, SpacePromisedToAnotherJobIsNotPromisedTwice) {
  Begin(0, 10);
  Begin(1, 10);
  const JobKey other{"default", "other"};
  const Generation h = core.BeginRunOf(core.Connect(), 1, 5, {}, other);
  const auto rank = core.AttachRank(0, 1, h, 8192, {}, other);
  core.disk_available = 2 * 8192 + 1000;
  EXPECT_EQ(core.CodeOf(core.Ask(rank, BeginSnapshot{Step(1), ""})), Code::kNoSpace);
  core.disk_available = 3 * 8192 + 1000;
  EXPECT_TRUE(core.Ok(core.Ask(rank, BeginSnapshot{Step(2), ""})));
}

TEST_F(SnapshotsTest, EveryDataFolderNeedsRoomForItsRanks) {
  core.disk_available = 8192 + 1000;  // rank 0, and the reserve
  core.more_folders = {{"/nvme1", 2, 8191, std::nullopt}};
  const auto refused = Begin(0, 10);
  EXPECT_EQ(core.CodeOf(refused), Code::kNoSpace);
  EXPECT_NE(core.Answer<Error>(refused).message.find("/nvme1"), std::string::npos);
  Begin(1, 10);
  core.more_folders[0].available_bytes = 8192;  // nothing is kept in reserve there
  EXPECT_TRUE(core.Ok(Begin(0, 20)));
}

TEST_F(SnapshotsTest, FoldersOnOneDiskShareItsSpace) {
  core.disk_available = 2 * 8192 + 999;
  core.more_folders = {{"/also", 1, 2 * 8192 + 999, std::nullopt}};
  EXPECT_EQ(core.CodeOf(Begin(0, 10)), Code::kNoSpace);
  Begin(1, 10);
  core.disk_available = core.more_folders[0].available_bytes = 2 * 8192 + 1000;
  EXPECT_TRUE(core.Ok(Begin(0, 20)));
}

TEST_F(SnapshotsTest, WithoutOneOfItsDataFoldersNothingIsSaved) {
  core.more_folders = {{"/nvme1", 2, 1 << 30, Error{Code::kFolderMissing, "/nvme1 is not there", nullptr}}};
  EXPECT_EQ(core.CodeOf(Begin(0, 10)), Code::kFolderMissing);
  EXPECT_EQ(core.CodeOf(Begin(1, 10)), Code::kFolderMissing) << "all ranks hear the same";
  core.more_folders[0].missing.reset();
  EXPECT_TRUE(core.Ok(Begin(0, 20)));
}

TEST_F(SnapshotsTest, WhenShortOfSpaceRetentionIsTriedFirst) {
  core.Disconnect(launcher);
  StartRun(1, {.keep_last = 1});
  core.Save(ranks, 10);
  // A restore holds step 10, so retention leaves it alone after step 20.
  const auto reader = core.Connect();
  core.Ask(reader, OpenCheckpoint{kJob, Step(10), {}, false, {}});
  core.Save(ranks, 20);
  EXPECT_EQ(core.Count<DeleteCheckpoint>(), 0U);
  core.Disconnect(reader);

  core.disk_available = 0;
  const auto begin = Begin(0, 30);
  EXPECT_FALSE(core.Answered(begin)) << "a deletion is under way";
  core.disk_available = 1 << 30;
  EXPECT_TRUE(core.FinishDelete());
  EXPECT_TRUE(core.Ok(begin));

  Seal(0, 30);
  core.FinishWrite();
  core.FinishManifest();
  core.disk_available = 0;
  const auto again = Begin(0, 40);
  core.FinishDelete();
  EXPECT_EQ(core.CodeOf(again), Code::kNoSpace) << "and if that does not help, it is said";
}

TEST_F(SnapshotsTest, TheCopyInMemoryIsReadableUntilEveryRankHasBegunTheNextSnapshot) {
  core.Save(ranks, 10);
  EXPECT_TRUE(core.Points().at(0).in_memory);
  Begin(1, 20);
  EXPECT_TRUE(core.Points().at(0).in_memory) << "rank 1 waits for rank 0";
  Begin(0, 20);
  EXPECT_FALSE(core.Points().at(0).in_memory) << "it is being overwritten";
  EXPECT_EQ(core.CodeOf(core.Ask(ranks[0], OpenCheckpoint{kJob, Step(10), {}, true, {}})), Code::kNotFound);
}

TEST_F(SnapshotsTest, ABeginThatAnotherRankCannotFollowLeavesTheOnlyCopyInMemory) {
  Begin(0, 10);
  Begin(1, 10);
  Seal(0, 10);
  Seal(1, 10);
  core.FinishWrite(Error{Code::kNoSpace, "full", nullptr});
  core.FinishWrite();
  ASSERT_TRUE(core.FinishManifest());
  ASSERT_TRUE(core.FinishDiscard());
  ASSERT_TRUE(core.Ok(Begin(0, 20)));
  EXPECT_TRUE(core.Ok(core.Ask(ranks[0], AbandonSnapshot{Step(20), "another rank could not begin"})));
  EXPECT_TRUE(core.FinishDiscard());
  const auto points = core.Points();
  ASSERT_EQ(points.size(), 1U);
  EXPECT_EQ(points[0].id.step, Step(10));
  EXPECT_TRUE(points[0].in_memory);
  core.Ask(ranks[0], OpenCheckpoint{kJob, Step(10), {}, true, {"rank-00001.model.safetensors"}});
  EXPECT_EQ(core.Count<OpenFromMemory>(), 1U);
}

TEST_F(SnapshotsTest, ARankThatSealsBeforeAllHaveBegunEndsTheCopyInMemory) {
  core.Save(ranks, 10);
  Begin(1, 20);
  Seal(1, 20);
  EXPECT_FALSE(core.Points().at(0).in_memory) << "rank 1's memory holds step 20";
}

TEST_F(SnapshotsTest, ASmallerWorldResumesFromMemoryAndThenFreesTheRest) {
  core.Save(ranks, 10);
  core.Disconnect(ranks[0]);
  core.Disconnect(ranks[1]);
  generation = core.BeginRunOf(launcher, 1, 77, generation);
  ranks = {core.AttachRank(0, 1, generation)};
  EXPECT_TRUE(core.Points().at(0).in_memory);
  EXPECT_EQ(core.Count<FreeStaging>(), 0U);
  core.Save(ranks, 20);
  EXPECT_EQ(core.Count<FreeStaging>(), 1U);
  EXPECT_TRUE(core.Points().at(0).in_memory);
}

}  // namespace
}  // namespace belay::checkpoint::commit
