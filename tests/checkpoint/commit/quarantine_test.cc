// Damage in committed checkpoints, as the core decides about it.
#include "tests/checkpoint/commit/core_harness.h"

namespace belay::checkpoint::commit {
namespace {

using base::Code;
using base::Generation;
using base::Step;

constexpr char kShard[] = "rank-00000.model.safetensors";

class QuarantineTest : public testing::Test {
 protected:
  void StartRun(Retention retention = {.keep_last = 3}) {
    launcher = core.Connect();
    generation = core.BeginRunOf(launcher, 1);
    ranks = {core.AttachRank(0, 1, generation, 8192, retention)};
  }
  void Damage(std::int64_t step, const std::string& file = kShard) {
    core.Send(DamageFound{kJob, {generation, Step(step)}, file, file + " is damaged"});
  }
  bool FinishMark(std::optional<base::Error> error = std::nullopt) {
    const auto order = core.Take<PersistQuarantine>();
    if (order) core.Send(QuarantineFinished{order->ref, order->job, order->id, order->reason, std::move(error)});
    return order.has_value();
  }
  std::vector<std::int64_t> StepsOffered() {
    std::vector<std::int64_t> steps;
    for (const RestorePoint& point : core.Points()) steps.push_back(point.id.step.value());
    return steps;
  }
  std::map<std::int64_t, std::string> Listed() {
    std::map<std::int64_t, std::string> reasons;
    for (const auto& info : core.Answer<std::vector<CheckpointInfo>>(core.Ask(launcher, ListCheckpoints{}))) {
      reasons[info.id.step.value()] = info.info.quarantine;
    }
    return reasons;
  }
  std::uint64_t AskFor(std::int64_t step, const std::string& reason) {
    return core.Ask(launcher, QuarantineCheckpoint{kJob, Step(step), {}, reason});
  }
  using Steps = std::vector<std::int64_t>;

  CoreHarness core;
  ConnectionId launcher = 0;
  Generation generation;
  std::vector<ConnectionId> ranks;
};

TEST_F(QuarantineTest, ADamagedCheckpointIsListedWithItsReasonAndNotOffered) {
  StartRun();
  for (const int step : {10, 20, 30}) core.Save(ranks, step);
  Damage(20);
  EXPECT_EQ(StepsOffered(), (Steps{30, 10})) << "from the moment that it is known, not from when the mark is durable";
  ASSERT_TRUE(FinishMark());
  EXPECT_EQ(StepsOffered(), (Steps{30, 10}));
  EXPECT_EQ(Listed()[20], std::string(kShard) + " is damaged");
  EXPECT_EQ(Listed()[10], "");
  // Who names it may look at it.
  core.Ask(launcher, OpenCheckpoint{kJob, Step(20), {}, false, {}});
  EXPECT_EQ(core.Count<OpenFromDisk>(), 1U);
  Damage(20);
  EXPECT_FALSE(FinishMark()) << "it is known";
}

TEST_F(QuarantineTest, ANewRunDoesNotHearOfADamagedStep) {
  Catalogue catalogue;
  catalogue[kJob].generation = Generation(1);
  catalogue[kJob].checkpoints[{Generation(1), Step(10)}] = {};
  catalogue[kJob].checkpoints[{Generation(1), Step(20)}].quarantine = "bad since before the restart";
  CoreHarness restarted(CoreHarness::Config(), catalogue);
  const auto asker = restarted.Connect();
  const auto request = restarted.Ask(asker, BeginRun{kJob, 1, "host", 7, {}});
  restarted.Persist();
  EXPECT_EQ(restarted.Answer<RunGrant>(request).newest_step, Step(10));
}

TEST_F(QuarantineTest, RetentionKeepsAGoodOneInItsPlaceAndDropsItWhenItIsOld) {
  StartRun({.keep_last = 2});
  core.Save(ranks, 10);
  core.Save(ranks, 20);
  core.Save(ranks, 30);
  ASSERT_TRUE(core.FinishDelete());  // of 10
  Damage(20);
  FinishMark();
  core.Save(ranks, 40);
  EXPECT_EQ(core.Count<DeleteCheckpoint>(), 1U) << "30 and 40 are good: 20 is of no more use";
  EXPECT_EQ(core.Take<DeleteCheckpoint>()->id.step, Step(20));

  Damage(30);
  FinishMark();
  core.Save(ranks, 50);
  EXPECT_EQ(StepsOffered(), (Steps{50, 40})) << "two good ones stay";
  core.Save(ranks, 60);
  EXPECT_EQ(StepsOffered(), (Steps{60, 50}));
}

TEST_F(QuarantineTest, WhatIsWholeInMemoryIsRepaired) {
  StartRun();
  core.Save(ranks, 10);
  Damage(10);
  Damage(10, "rank-00000.state.json");
  Damage(10, "manifest.json");
  EXPECT_EQ(core.Count<PersistQuarantine>(), 0U);
  auto order = core.Take<RepairFile>();
  ASSERT_TRUE(order);
  EXPECT_EQ(order->file.name, kShard);
  EXPECT_EQ(order->file.bytes, 4096U);
  EXPECT_EQ(order->manifest, "{manifest}");
  EXPECT_EQ(*core.Take<RepairFile>()->file.records, "{}");
  EXPECT_EQ(core.Take<RepairFile>()->file.name, "manifest.json");
  for (const char* file : {kShard, "rank-00000.state.json", "manifest.json"}) {
    core.Send(RepairFinished{kJob, order->id, file, "damage", std::nullopt});
  }
  EXPECT_EQ(StepsOffered(), (Steps{10}));
  EXPECT_EQ(Listed()[10], "");
}

TEST_F(QuarantineTest, RetentionWaitsForARepair) {
  StartRun({.keep_last = 1});
  core.Save(ranks, 10);
  Damage(10);
  const auto order = core.Take<RepairFile>();
  ASSERT_TRUE(order);
  core.Save(ranks, 20);
  EXPECT_EQ(core.Count<DeleteCheckpoint>(), 0U);
  core.Send(RepairFinished{kJob, order->id, kShard, "damage", std::nullopt});
  core.Save(ranks, 30);
  EXPECT_EQ(core.Count<DeleteCheckpoint>(), 2U);
}

TEST_F(QuarantineTest, AFailedRepairQuarantinesAndTheMemoryIsStillOffered) {
  StartRun();
  core.Save(ranks, 10);
  Damage(10);
  const auto order = core.Take<RepairFile>();
  ASSERT_TRUE(order);
  core.Send(RepairFinished{kJob, order->id, kShard, "a bad chunk", base::Error{Code::kIo, "no luck", nullptr}});
  ASSERT_TRUE(FinishMark());
  EXPECT_EQ(Listed()[10], "a bad chunk; a repair from memory failed: no luck");
  ASSERT_EQ(core.Points().size(), 1U);
  EXPECT_TRUE(core.Points()[0].in_memory);
  EXPECT_FALSE(core.Points()[0].committed) << "gone with the memory";
}

TEST_F(QuarantineTest, WhatGoesAnywayIsLeftAlone) {
  StartRun();
  core.Save(ranks, 10);
  core.Save(ranks, 20);
  core.Ask(launcher, RemoveCheckpoint{kJob, Step(10), {}, false});
  Damage(10);
  Damage(99);
  core.Send(DamageFound{{"default", "none"}, {generation, Step(10)}, kShard, "x"});
  EXPECT_EQ(core.Count<PersistQuarantine>(), 0U);
  EXPECT_EQ(core.Count<RepairFile>(), 0U);
}

TEST_F(QuarantineTest, IsSetAndLiftedOnRequest) {
  StartRun();
  core.Save(ranks, 10);
  core.Save(ranks, 20);
  const auto set = AskFor(10, "looks odd");
  EXPECT_FALSE(core.Answered(set)) << "not before the mark is on disk";
  FinishMark();
  EXPECT_TRUE(core.Ok(set));
  EXPECT_EQ(StepsOffered(), (Steps{20}));
  const auto failed = AskFor(10, "");
  FinishMark(base::Error{Code::kReadOnly, "read-only", nullptr});
  EXPECT_EQ(core.CodeOf(failed), Code::kReadOnly);
  EXPECT_EQ(StepsOffered(), (Steps{20})) << "the mark is still there";
  const auto lifted = AskFor(10, "");
  FinishMark();
  EXPECT_TRUE(core.Ok(lifted));
  EXPECT_EQ(StepsOffered(), (Steps{20, 10}));
  EXPECT_EQ(core.CodeOf(AskFor(15, "x")), Code::kNotFound);
  const auto stranger = core.Connect(4711);
  EXPECT_EQ(core.CodeOf(core.Ask(stranger, QuarantineCheckpoint{kJob, Step(10), {}, "x"})), Code::kPermissionDenied);
}

TEST_F(QuarantineTest, AMarkThatCannotBeWrittenKeepsItOutOfReachAllTheSame) {
  StartRun();
  core.Save(ranks, 10);
  core.Save(ranks, 20);
  Damage(10);
  FinishMark(base::Error{Code::kNoSpace, "full", nullptr});
  EXPECT_EQ(StepsOffered(), (Steps{20}));
}

TEST_F(QuarantineTest, TheLastOneLeftIsRemovedWithoutForceOnceItIsDamaged) {
  StartRun();
  core.Save(ranks, 10);
  core.Ask(ranks[0], BeginSnapshot{Step(20), ""});  // the memory goes
  Damage(10);
  FinishMark();
  EXPECT_TRUE(StepsOffered().empty());
  const auto removal = core.Ask(launcher, RemoveCheckpoint{kJob, Step(10), {}, false});
  core.FinishDelete();
  EXPECT_TRUE(core.Ok(removal));
}

}  // namespace
}  // namespace belay::checkpoint::commit
