// Several snapshots of a job in flight.
#include "tests/checkpoint/commit/core_harness.h"

namespace belay::checkpoint::commit {
namespace {

using base::Code;

// Two ranks that know of further buffers, 8 KiB each.
class BuffersTest : public testing::Test {
 protected:
  explicit BuffersTest(const CoreConfig& config = CoreHarness::Config()) : core_(config) {
    generation_ = core_.BeginRunOf(launcher_ = core_.Connect(), 2);
    for (int rank = 0; rank < 2; ++rank) ranks_.push_back(AttachOne(rank));
  }
  ConnectionId AttachOne(int rank, bool takes_more = true) {
    const ConnectionId connection = core_.Connect(0, 500 + rank);
    Attach attach = CoreHarness::AttachOf(rank, 2, generation_);
    attach.takes_more_buffers = takes_more;
    EXPECT_TRUE(core_.Ok(core_.Ask(connection, attach)));
    return connection;
  }
  std::vector<Begun> Begin(std::int64_t step) {
    std::vector<Begun> begun;
    for (const ConnectionId rank : ranks_) {
      begun.push_back(core_.Answer<Begun>(core_.Ask(rank, BeginSnapshot{base::Step(step), "interval"})));
    }
    return begun;
  }
  Code BeginFails(std::int64_t step) {
    Code code{};
    for (const ConnectionId rank : ranks_) {
      code = core_.CodeOf(core_.Ask(rank, BeginSnapshot{base::Step(step), "interval"}));
    }
    return code;
  }
  void Seal(std::int64_t step) {
    for (int rank = 0; rank < 2; ++rank) {
      EXPECT_TRUE(core_.Ok(core_.Ask(ranks_[static_cast<std::size_t>(rank)], CoreHarness::SealOf(rank, step))));
    }
  }
  void BeginAndSeal(std::int64_t step) {
    Begin(step);
    Seal(step);
  }
  // One save finds the memory taken, so that a second buffer is there from now on. Step 1 is committed.
  void Grow() {
    BeginAndSeal(1);
    EXPECT_EQ(BeginFails(2), Code::kBusy);
    Commit();
  }
  void Commit() {
    while (core_.FinishWrite()) {
    }
    EXPECT_TRUE(core_.FinishManifest());
  }

  CoreHarness core_;
  base::Generation generation_;
  ConnectionId launcher_ = 0;
  std::vector<ConnectionId> ranks_;
};

TEST_F(BuffersTest, ThereIsOneWhileTheDiskKeepsUp) {
  for (const int step : {1, 2, 3}) core_.Save(ranks_, step);
  EXPECT_EQ(core_.Count<AllocateStaging>(), 2U) << "one a rank, when it attached";
}

TEST_F(BuffersTest, ASaveThatFindsTheMemoryTakenIsPutOffAndTheNextHasAnother) {
  Grow();
  ASSERT_EQ(core_.Count<AllocateStaging>(), 4U);
  BeginAndSeal(2);
  const std::vector<Begun> third = Begin(3);
  EXPECT_NE(third[0].buffer, core_.Take<StartWrite>()->buffer);
  EXPECT_EQ(third[0].buffer, third[1].buffer) << "all ranks use the same";
  EXPECT_EQ(BeginFails(4), Code::kBusy);
  EXPECT_TRUE(core_.FinishDiscard()) << "a rank that goes on has given step 3 up";
  EXPECT_EQ(core_.OutcomeNow(ranks_[0], 3).failure->code, Code::kCancelled);
  EXPECT_EQ(core_.OutcomeNow(ranks_[0], 2).state, SnapshotState::kSealed);
}

TEST_F(BuffersTest, NoMoreThanConfiguredAreMade) {
  Grow();
  BeginAndSeal(2);
  BeginAndSeal(3);
  EXPECT_EQ(BeginFails(4), Code::kBusy);
  EXPECT_EQ(core_.Count<AllocateStaging>(), 4U);
}

TEST_F(BuffersTest, ABufferIsUsedOnceEveryRankHasIt) {
  core_.auto_allocate = false;
  BeginAndSeal(1);
  EXPECT_EQ(BeginFails(2), Code::kBusy);
  core_.Take<AllocateStaging>(), core_.Take<AllocateStaging>();  // those of the start
  const auto first = core_.Take<AllocateStaging>(), second = core_.Take<AllocateStaging>();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->buffer, 1U);
  core_.Send(StagingAllocated{first->ref, first->job, first->rank, std::nullopt, 1});
  EXPECT_EQ(BeginFails(2), Code::kBusy);
  core_.Send(StagingAllocated{second->ref, second->job, second->rank, std::nullopt, 1});
  EXPECT_EQ(Begin(2)[1].buffer, 1U);
}

TEST_F(BuffersTest, MemoryThatCannotBeMadeIsAskedForAgain) {
  core_.auto_allocate = false;
  BeginAndSeal(1);
  EXPECT_EQ(BeginFails(2), Code::kBusy);
  core_.Take<AllocateStaging>(), core_.Take<AllocateStaging>();
  for (auto order = core_.Take<AllocateStaging>(); order; order = core_.Take<AllocateStaging>()) {
    core_.Send(StagingAllocated{order->ref, order->job, order->rank, base::Error{Code::kOutOfMemory, "none", nullptr},
                                order->buffer});
  }
  EXPECT_EQ(core_.core().state().jobs.at(kJob).staging.at(base::Rank(0)).buffers.size(), 1U);
  EXPECT_EQ(BeginFails(3), Code::kBusy);
  EXPECT_EQ(core_.Count<AllocateStaging>(), 2U);
  Commit();
  core_.Save(ranks_, 4);
}

TEST_F(BuffersTest, ARankThatAttachesAgainFindsThemAll) {
  Grow();
  Begin(2);
  ranks_[0] = AttachOne(0);  // the same process, once more
  EXPECT_TRUE(core_.FinishDiscard());
  EXPECT_EQ(Begin(3)[0].buffer, 1U) << "step 1 lies in the first";
}

TEST_F(BuffersTest, TheNewestCompleteSnapshotStaysInMemoryWhileTheNextIsCopied) {
  Grow();
  Begin(2);
  ASSERT_FALSE(core_.Points().empty());
  EXPECT_EQ(core_.Points().front().id.step, base::Step(1));
  EXPECT_TRUE(core_.Points().front().in_memory);
  core_.Disconnect(ranks_[1]);  // it dies while it copies
  EXPECT_TRUE(core_.FinishDiscard());
  EXPECT_TRUE(core_.Points().front().in_memory);
}

TEST_F(BuffersTest, ARanksSnapshotsAreWrittenOneAfterTheOther) {
  Grow();
  BeginAndSeal(2);
  BeginAndSeal(3);
  EXPECT_EQ(core_.Count<StartWrite>(), 2U) << "of step 2, by each rank";
  EXPECT_TRUE(core_.FinishWrite());
  ASSERT_EQ(core_.Count<StartWrite>(), 2U);
  EXPECT_EQ(core_.Take<StartWrite>()->id.step, base::Step(2));
  EXPECT_EQ(core_.Take<StartWrite>()->id.step, base::Step(3)) << "the rank that is through goes on";
}

TEST_F(BuffersTest, BothAreCommittedAndTheNewerIsTheOneInMemory) {
  Grow();
  BeginAndSeal(2);
  BeginAndSeal(3);
  while (core_.FinishWrite()) {
  }
  const auto second = core_.Take<PublishManifest>(), third = core_.Take<PublishManifest>();
  ASSERT_TRUE(second && third);
  EXPECT_EQ(third->id.step, base::Step(3));
  for (const auto& publish : {third, second}) {  // in the wrong order
    core_.Send(ManifestFinished{publish->job, publish->id, std::nullopt, "{manifest}", {}});
  }
  const auto points = core_.Points();
  ASSERT_EQ(points.size(), 3U);
  EXPECT_EQ(points[0].id.step, base::Step(3));
  EXPECT_TRUE(points[0].in_memory);
  EXPECT_FALSE(points[1].in_memory);
  EXPECT_EQ(core_.OutcomeNow(ranks_[0], 2).state, SnapshotState::kCommitted);
}

TEST_F(BuffersTest, OneFailsAndTheOtherIsCommitted) {
  Grow();
  BeginAndSeal(2);
  BeginAndSeal(3);
  const base::Error full{Code::kNoSpace, "full", nullptr};
  EXPECT_TRUE(core_.FinishWrite(full));
  EXPECT_TRUE(core_.FinishWrite(full));
  ASSERT_TRUE(core_.FinishManifest()) << "step 2 is whole in memory";
  EXPECT_TRUE(core_.FinishDiscard());
  Commit();
  const auto points = core_.Points();
  ASSERT_EQ(points.size(), 2U);
  EXPECT_EQ(points[0].id.step, base::Step(3));
  EXPECT_EQ(core_.OutcomeNow(ranks_[0], 2).failure->code, Code::kNoSpace);
}

TEST_F(BuffersTest, AQueuedOneOfAFailedSnapshotIsOnlyInspected) {
  Grow();
  BeginAndSeal(2);
  BeginAndSeal(3);
  EXPECT_TRUE(core_.FinishWrite());  // rank 0 goes on with step 3
  const auto second = core_.Take<StartWrite>(), third = core_.Take<StartWrite>();
  const base::Error full{Code::kNoSpace, "full", nullptr};
  core_.Send(WriteFinished{kJob, third->id, third->rank, full, {InspectedFile{}}, 0.1});
  core_.Send(WriteFinished{kJob, second->id, second->rank, std::nullopt, {InspectedFile{}}, 0.1});
  EXPECT_TRUE(core_.FinishManifest());
  const auto queued = core_.Take<StartWrite>();
  ASSERT_TRUE(queued);
  EXPECT_TRUE(queued->inspect_only);
  EXPECT_EQ(queued->id.step, base::Step(3));
}

TEST_F(BuffersTest, ANewRunWaitsForBothThatAreSealed) {
  Grow();
  BeginAndSeal(2);
  BeginAndSeal(3);
  core_.Disconnect(launcher_);
  const auto begun = core_.Ask(core_.Connect(), BeginRun{kJob, 2, "host", 78, generation_});
  while (core_.FinishWrite()) {
  }
  EXPECT_TRUE(core_.FinishManifest());
  EXPECT_EQ(core_.Count<PersistGeneration>(), 0U) << "step 3 is still to be committed";
  EXPECT_TRUE(core_.FinishManifest());
  core_.Persist();
  EXPECT_EQ(core_.Answer<RunGrant>(begun).newest_step, base::Step(3));
}

TEST_F(BuffersTest, SpaceOnTheDiskIsPromisedToEachOfThem) {
  Grow();
  core_.disk_available = 1000 + 2 * 8192;  // the reserve and one save
  BeginAndSeal(2);
  EXPECT_EQ(BeginFails(3), Code::kBusy) << "there may be room once step 2 is committed";
  core_.disk_available += 2 * 8192;
  EXPECT_EQ(BeginFails(4), Code{0});
}

TEST_F(BuffersTest, AProgramThatKnowsOfOneOnlyGetsOne) {
  Grow();
  ranks_[0] = AttachOne(0, false);
  BeginAndSeal(2);
  EXPECT_EQ(core_.Take<StartWrite>()->buffer, 0U);
  EXPECT_EQ(BeginFails(3), Code::kBusy);
}

TEST_F(BuffersTest, BothAreHandedOverWithWhatTheyHold) {
  Grow();
  core_.Save(ranks_, 2);
  const ConnectionId admin = core_.Connect();
  core_.Ask(admin, DaemonRestart{});
  const auto check = core_.Take<CheckSuccessor>();
  core_.Send(SuccessorChecked{check->ref, std::nullopt});
  const HandedOver handed = core_.core().HandOver();
  ASSERT_EQ(handed.jobs.size(), 1U);
  ASSERT_EQ(handed.jobs[0].slots.size(), 2U);
  EXPECT_EQ(handed.jobs[0].slots[1].slot.buffers.size(), 2U);
  EXPECT_TRUE(handed.jobs[0].memory);
}

// Room for what two ranks have at the start, and for one more buffer.
class TightBuffersTest : public BuffersTest {
 protected:
  static CoreConfig Tight() {
    CoreConfig config = CoreHarness::Config();
    config.memory_budget_bytes = 3 * 8192;
    return config;
  }
  TightBuffersTest() : BuffersTest(Tight()) {}
};

TEST_F(TightBuffersTest, MoreIsMadeForAllRanksOrForNone) {
  BeginAndSeal(1);
  EXPECT_EQ(BeginFails(2), Code::kBusy);
  EXPECT_EQ(core_.Count<AllocateStaging>(), 2U);
}

}  // namespace
}  // namespace belay::checkpoint::commit
