#include "runtime/checkpointer/save_worker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <semaphore>

namespace belay::runtime {
namespace {

using checkpoint::SnapshotOutcome;
using checkpoint::SnapshotState;

// Stops in Copy and before the commit until the test lets it go on.
class GatedSnapshotter final : public checkpoint::Snapshotter {
 public:
  base::Status Begin(base::Step, const std::string&) override { return {}; }
  base::Status Copy(const CopyRequest& request) override {
    copying_.release();
    may_copy_.acquire();
    if (!request.unchanged()) return base::Fail(base::Code::kSnapshotTorn, "torn");
    return {};
  }
  base::Status Seal(const checkpoint::Records& records, const std::map<std::string, double>&,
                    std::optional<base::Step>) override {
    sealed_records_ = records;
    ++seals_;
    return {};
  }
  base::Status Abandon(const std::string&) override { return {}; }
  base::Result<SnapshotOutcome> Wait(base::Step step, base::Duration) override {
    if (state_ == SnapshotState::kSealed) may_commit_.acquire();
    SnapshotOutcome outcome{.step = step, .state = state_};
    if (state_ == SnapshotState::kFailed) outcome.failure = base::Error{base::Code::kNoSpace, "the disk is full"};
    return outcome;
  }
  std::uint64_t StagingBytes() const override { return 0; }
  bool InWaves() const override { return false; }
  void AwaitTouched() override {}

  std::binary_semaphore copying_{0}, may_copy_{0}, may_commit_{0};
  std::atomic<SnapshotState> state_{SnapshotState::kCommitted};
  std::atomic<int> seals_{0};
  checkpoint::Records sealed_records_;
};

SaveWorker::Save SaveOf(GatedSnapshotter& snapshotter, std::int64_t step, bool unchanged = true) {
  return {.snapshotter = &snapshotter,
          .step = base::Step(step),
          .copy = {.unchanged = [unchanged] { return unchanged; }},
          .records = {{"sampler", "17"}}};
}

TEST(SaveWorkerTest, CarriesASaveFromCopyToCommit) {
  GatedSnapshotter snapshotter;
  SaveWorker worker(base::SystemClock());
  EXPECT_TRUE(worker.Idle());
  worker.Start(SaveOf(snapshotter, 5));
  snapshotter.copying_.acquire();
  EXPECT_FALSE(worker.Idle());
  snapshotter.may_copy_.release();
  ASSERT_TRUE(worker.AwaitIdle(std::nullopt));
  const auto reports = worker.TakeReports();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].step, base::Step(5));
  EXPECT_FALSE(reports[0].failure);
  EXPECT_EQ(snapshotter.sealed_records_.at("sampler"), "17");
  EXPECT_TRUE(worker.TakeReports().empty());
}

TEST(SaveWorkerTest, UpdatesWaitForTheCopyButNotForTheCommit) {
  GatedSnapshotter snapshotter;
  snapshotter.state_ = SnapshotState::kSealed;
  SaveWorker worker(base::SystemClock());
  worker.Start(SaveOf(snapshotter, 5));
  std::atomic<bool> updated{false};
  std::thread update([&] {
    worker.AwaitCopied();
    updated = true;
  });
  snapshotter.copying_.acquire();
  EXPECT_FALSE(updated);
  snapshotter.may_copy_.release();
  update.join();  // would hang if it waited for the commit, which has not been allowed yet
  EXPECT_FALSE(worker.Idle());
  snapshotter.state_ = SnapshotState::kCommitted;
  snapshotter.may_commit_.release();
  EXPECT_TRUE(worker.AwaitIdle(std::nullopt));
}

TEST(SaveWorkerTest, TheNextSaveIsCopiedWhileTheLastWaitsForItsCommit) {
  GatedSnapshotter snapshotter;
  snapshotter.state_ = SnapshotState::kSealed;
  SaveWorker worker(base::SystemClock());
  for (const int step : {5, 6}) {
    worker.Start(SaveOf(snapshotter, step));
    snapshotter.copying_.acquire();
    EXPECT_FALSE(worker.Free());
    snapshotter.may_copy_.release();
    worker.AwaitCopied();
    while (!worker.Free()) std::this_thread::yield();  // it still seals
  }
  EXPECT_EQ(snapshotter.seals_, 2);
  EXPECT_TRUE(worker.TakeReports().empty());
  EXPECT_FALSE(worker.Idle());
  snapshotter.state_ = SnapshotState::kCommitted;
  snapshotter.may_commit_.release();
  ASSERT_TRUE(worker.AwaitIdle(std::nullopt));
  const auto reports = worker.TakeReports();
  ASSERT_EQ(reports.size(), 2U);
  EXPECT_EQ(reports[0].step, base::Step(5));
  EXPECT_EQ(reports[1].step, base::Step(6));
}

TEST(SaveWorkerTest, ATornCopyIsReportedAndNeverSealed) {
  GatedSnapshotter snapshotter;
  SaveWorker worker(base::SystemClock());
  worker.Start(SaveOf(snapshotter, 5, /*unchanged=*/false));
  snapshotter.may_copy_.release();
  ASSERT_TRUE(worker.AwaitIdle(std::nullopt));
  const auto reports = worker.TakeReports();
  ASSERT_EQ(reports.size(), 1U);
  ASSERT_TRUE(reports[0].failure);
  EXPECT_EQ(reports[0].failure->code, base::Code::kSnapshotTorn);
  EXPECT_TRUE(reports[0].here);
  EXPECT_EQ(snapshotter.seals_, 0);
}

TEST(SaveWorkerTest, TellsThatTheCopyEndedHoweverItWentAndBeforeTheUpdateGoesOn) {
  for (const bool unchanged : {true, false}) {
    SCOPED_TRACE(unchanged);
    GatedSnapshotter snapshotter;
    SaveWorker worker(base::SystemClock());
    std::atomic<int> ended{0};
    auto save = SaveOf(snapshotter, 5, unchanged);
    save.copy_ended = [&] { ++ended; };
    worker.Start(std::move(save));
    snapshotter.copying_.acquire();
    EXPECT_EQ(ended, 0);
    snapshotter.may_copy_.release();
    worker.AwaitCopied();
    EXPECT_EQ(ended, 1);
    ASSERT_TRUE(worker.AwaitIdle(std::nullopt));
    EXPECT_EQ(ended, 1);
  }
}

TEST(SaveWorkerTest, AFailureOfTheDaemonIsReportedWithItsReason) {
  GatedSnapshotter snapshotter;
  snapshotter.state_ = SnapshotState::kFailed;
  SaveWorker worker(base::SystemClock());
  worker.Start(SaveOf(snapshotter, 5));
  snapshotter.may_copy_.release();
  ASSERT_TRUE(worker.AwaitIdle(std::nullopt));
  const auto reports = worker.TakeReports();
  ASSERT_EQ(reports.size(), 1U);
  EXPECT_EQ(reports[0].failure->code, base::Code::kNoSpace);
  EXPECT_FALSE(reports[0].here);
}

TEST(SaveWorkerTest, LeavingFinishesTheCopyAndSealsIt) {
  GatedSnapshotter snapshotter;
  {
    SaveWorker worker(base::SystemClock());
    worker.Start(SaveOf(snapshotter, 5));
    snapshotter.copying_.acquire();
    snapshotter.may_copy_.release();
  }
  EXPECT_EQ(snapshotter.seals_, 1);
}

TEST(SaveWorkerTest, ServesOneSaveAfterAnother) {
  GatedSnapshotter snapshotter;
  SaveWorker worker(base::SystemClock());
  for (int step = 1; step <= 20; ++step) {
    worker.Start(SaveOf(snapshotter, step));
    snapshotter.may_copy_.release();
    ASSERT_TRUE(worker.AwaitIdle(std::nullopt));
    snapshotter.copying_.acquire();
  }
  EXPECT_EQ(worker.TakeReports().size(), 20U);
}

}  // namespace
}  // namespace belay::runtime
