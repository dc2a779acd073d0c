#include "checkpoint/daemon/scrub_plan.h"

#include <gtest/gtest.h>

#include "runtime/base/sim/sim_clock.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using base::Generation;
using base::Step;
using std::chrono::hours;
using std::chrono::seconds;

const commit::JobKey kA{"default", "a"}, kB{"default", "b"};
commit::CheckpointId Id(std::int64_t step) { return {Generation(1), Step(step)}; }

class ScrubPlanTest : public testing::Test {
 protected:
  ScrubPlanTest() {
    for (const int step : {10, 20}) state_.jobs[kA].committed[Id(step)] = {};
    state_.jobs[kB].committed[Id(5)] = {};
    Restart({});
    clock_.Advance(seconds(60));
  }
  void Restart(ScrubProgress progress) { plan_.emplace(ScrubOptions{}, std::move(progress), clock_.Now()); }
  std::optional<ScrubOrder> Next() { return plan_->Next(state_, clock_.Now(), clock_.WallNow()); }
  std::optional<base::Duration> Wake() {
    const auto wake = plan_->Wake(clock_.Now(), clock_.WallNow());
    return wake ? std::optional(*wake - clock_.Now()) : std::nullopt;
  }
  // The worker's part: every checkpoint has the files "f1" and "f2".
  static ScrubResult Read(const ScrubOrder& order) {
    return {order, order.after.empty() ? "f1" : order.after == "f1" ? "f2" : "", 100, std::nullopt, false};
  }
  // Reads until nothing is due; "a/10/f1" and so on.
  std::vector<std::string> RunDown() {
    std::vector<std::string> read;
    while (const auto order = Next()) {
      const ScrubResult result = Read(*order);
      if (!result.file.empty()) read.push_back(base::Str(order->job.job, "/", order->id.step, "/", result.file));
      EXPECT_FALSE(plan_->Finished(result));
    }
    return read;
  }
  const std::vector<std::string> all_ = {"a/10/f1", "a/10/f2", "a/20/f1", "a/20/f2", "b/5/f1", "b/5/f2"};

  base::SimClock clock_;
  commit::State state_;
  std::optional<ScrubPlan> plan_;
};

TEST_F(ScrubPlanTest, ReadsEveryFileOnceAPass) {
  EXPECT_EQ(RunDown(), all_);
  EXPECT_FALSE(plan_->progress().under_way);
  EXPECT_EQ(plan_->progress().files, 6U);
  EXPECT_TRUE(RunDown().empty()) << "the next pass is not due";
  EXPECT_EQ(Wake(), hours(1)) << "the wall clock is asked again";
  clock_.Advance(hours(23));
  EXPECT_TRUE(RunDown().empty());
  EXPECT_EQ(Wake(), hours(1));
  clock_.Advance(hours(1));
  EXPECT_EQ(RunDown(), all_);
  EXPECT_EQ(plan_->progress().files, 6U) << "counts are of the last pass";
}

TEST_F(ScrubPlanTest, LeavesTheStartAlone) {
  Restart({});
  EXPECT_FALSE(Next());
  EXPECT_EQ(Wake(), seconds(60));
  clock_.Advance(seconds(60));
  EXPECT_TRUE(Next());
  EXPECT_FALSE(Next()) << "one at a time";
  EXPECT_FALSE(Wake()) << "the end of the reading is an event";
}

TEST_F(ScrubPlanTest, GoesOnAfterARestartWhereItWas) {
  for (int i = 0; i < 3; ++i) plan_->Finished(Read(*Next()));
  const std::string stored = EncodeScrubProgress(plan_->progress());
  ASSERT_TRUE(Next());  // being read when the daemon is killed
  Restart(DecodeScrubProgress(stored));
  clock_.Advance(seconds(60));
  EXPECT_EQ(RunDown(), (std::vector<std::string>{"a/20/f1", "a/20/f2", "b/5/f1", "b/5/f2"}));
  EXPECT_EQ(plan_->progress().files, 6U);
  EXPECT_EQ(EncodeScrubProgress(DecodeScrubProgress(stored)), stored);
  EXPECT_FALSE(DecodeScrubProgress("nonsense").under_way);
  EXPECT_FALSE(DecodeScrubProgress("{}").under_way);
}

TEST_F(ScrubPlanTest, WhatWasGivenUpIsReadAgain) {
  const auto order = Next();
  ASSERT_TRUE(order);
  ScrubResult result = Read(*order);
  result.is_given_up = true;
  EXPECT_FALSE(plan_->Finished(result));
  EXPECT_EQ(RunDown(), all_);
}

TEST_F(ScrubPlanTest, BeginsNothingWhileSomebodySavesOrRestores) {
  state_.jobs[kB].snapshots[{}];
  EXPECT_TRUE(ScrubMustPause(state_));
  EXPECT_FALSE(Next());
  state_.jobs[kB].snapshots.clear();
  state_.connections[1].reading.insert({kA, Id(10)});
  EXPECT_TRUE(ScrubMustPause(state_));
  EXPECT_FALSE(Next());
  state_.connections.clear();
  EXPECT_FALSE(ScrubMustPause(state_));
  EXPECT_TRUE(Next());
}

TEST_F(ScrubPlanTest, PassesOverWhatGoesAndWhatIsKnownToBeBad) {
  state_.jobs[kA].committed[Id(10)].removing = true;
  state_.jobs[kA].committed[Id(20)].info.quarantine = "bad";
  EXPECT_EQ(RunDown(), (std::vector<std::string>{"b/5/f1", "b/5/f2"}));
}

TEST_F(ScrubPlanTest, CheckpointsMayComeAndGoMeanwhile) {
  plan_->Finished(Read(*Next()));
  state_.jobs[kA].committed.erase(Id(10));  // the one that was being read
  state_.jobs[kA].committed[Id(15)] = {};
  EXPECT_EQ(RunDown(), (std::vector<std::string>{"a/15/f1", "a/15/f2", "a/20/f1", "a/20/f2", "b/5/f1", "b/5/f2"}));
}

TEST_F(ScrubPlanTest, DamageIsToldAndWhatCannotBeReadIsCounted) {
  ScrubResult result = Read(*Next());
  result.error = base::Error{Code::kCorrupt, "a bad chunk", nullptr};
  const auto damage = plan_->Finished(result);
  ASSERT_TRUE(damage);
  EXPECT_EQ(damage->job, kA);
  EXPECT_EQ(damage->id, Id(10));
  EXPECT_EQ(damage->file, "f1");
  EXPECT_EQ(damage->what, "a bad chunk");
  result = Read(*Next());
  result.error = base::Error{Code::kIo, "the network is away", nullptr};
  EXPECT_FALSE(plan_->Finished(result));
  EXPECT_EQ(plan_->progress().damaged, 1U);
  EXPECT_EQ(plan_->progress().unreadable, 1U);
}

TEST_F(ScrubPlanTest, AClockThatWasSetBackBeginsAPassInsteadOfWaitingForIt) {
  RunDown();
  clock_.StepWall(-hours(48));
  EXPECT_EQ(RunDown(), all_);
}

TEST_F(ScrubPlanTest, RateZeroIsOff) {
  plan_.emplace(ScrubOptions{.bytes_per_second = 0}, ScrubProgress{}, clock_.Now());
  clock_.Advance(hours(100));
  EXPECT_FALSE(Next());
  EXPECT_FALSE(Wake());
}

}  // namespace
}  // namespace belay::checkpoint
