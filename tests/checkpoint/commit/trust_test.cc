// What resumes say of a checkpoint, as the core decides about it.
#include "checkpoint/commit/trust.h"

#include "tests/checkpoint/commit/core_harness.h"

namespace belay::checkpoint::commit {
namespace {

using base::Code;
using base::Generation;
using base::Step;
using Steps = std::vector<std::int64_t>;

TEST(JudgeTest, TwoRunsThatFailMakeItSuspectAndOneRunCountsOnce) {
  const auto once = Judge({}, Judgement::kFailed, Generation(2), "rank 0 died");
  ASSERT_TRUE(once);
  EXPECT_EQ(once->state, TrustState::kUnknown);
  EXPECT_EQ(once->failed_resumes, 1U);
  EXPECT_FALSE(Judge(*once, Judgement::kFailed, Generation(2), "the same, heard twice"));
  const auto twice = Judge(*once, Judgement::kFailed, Generation(3), "rank 0 died again");
  ASSERT_TRUE(twice);
  EXPECT_EQ(twice->state, TrustState::kSuspect);
  EXPECT_EQ(twice->reason, "rank 0 died again");
  EXPECT_FALSE(Judge(*twice, Judgement::kFailed, Generation(4), "no news"));
}

TEST(JudgeTest, NumbersThatAreNoneMakeItSuspectAtOnce) {
  const auto after = Judge({}, Judgement::kDiverged, Generation(2), "loss = nan");
  ASSERT_TRUE(after);
  EXPECT_EQ(after->state, TrustState::kSuspect);
}

TEST(JudgeTest, OneThatHasTrainedOnStaysGoodWhateverFailsAfterIt) {
  const auto failed = Judge({}, Judgement::kFailed, Generation(2), "x");
  const auto proved = Judge(*failed, Judgement::kProved, Generation(3), "");
  ASSERT_TRUE(proved);
  EXPECT_EQ(proved->state, TrustState::kGood);
  EXPECT_EQ(proved->failed_resumes, 0U);
  for (const Judgement word : {Judgement::kFailed, Judgement::kDiverged, Judgement::kProved}) {
    EXPECT_FALSE(Judge(*proved, word, Generation(4), "x"));
  }
}

TEST(JudgeTest, APersonsWordReplacesEverythingAndRunsGoOnFromThere) {
  const Trust suspect{TrustState::kSuspect, 2, Generation(3), "x"};
  const auto good = Judge(suspect, Judgement::kGood, {}, "the bug was in the program");
  ASSERT_TRUE(good);
  EXPECT_EQ(*good, (Trust{TrustState::kGood, 0, {}, "the bug was in the program"}));
  const auto forgotten = Judge(suspect, Judgement::kUnknown, {}, "");
  ASSERT_TRUE(forgotten);
  EXPECT_EQ(*forgotten, Trust());
  EXPECT_EQ(Judge(*forgotten, Judgement::kFailed, Generation(3), "x")->failed_resumes, 1U);
  EXPECT_EQ(Judge(*good, Judgement::kSuspect, {}, "no")->state, TrustState::kSuspect);
  EXPECT_FALSE(Judge(*good, Judgement::kGood, {}, "the bug was in the program")) << "nothing new";
}

class TrustCoreTest : public testing::Test {
 protected:
  // The next run; its launcher holds the job until the one after it.
  void StartRun(Retention retention = {.keep_last = 5}) {
    for (const ConnectionId rank : ranks) core.Disconnect(rank);
    if (launcher != 0) core.Disconnect(launcher);
    launcher = core.Connect();
    const auto request = core.Ask(launcher, BeginRun{kJob, 1, "host", 77, generation});
    core.Persist();
    grant = core.Answer<RunGrant>(request);
    generation = grant.generation;
    ranks = {core.AttachRank(0, 1, generation, 8192, retention)};
  }
  std::uint64_t Say(Judgement judgement, std::int64_t step, Generation by, Generation of = Generation(1)) {
    return core.Ask(launcher, JudgeCheckpoint{kJob, Step(step), of, judgement, by, "rank 0 died"});
  }
  bool FinishMark(std::optional<base::Error> error = std::nullopt) {
    const auto order = core.Take<PersistTrust>();
    if (order) core.Send(TrustFinished{order->ref, order->job, order->id, order->trust, std::move(error)});
    return order.has_value();
  }
  // Two runs that fail on it.
  void MakeSuspect(std::int64_t step) {
    for (int i = 0; i < 2; ++i) {
      StartRun();
      Say(Judgement::kFailed, step, generation);
      ASSERT_TRUE(FinishMark());
    }
  }
  Steps StepsOffered() {
    Steps steps;
    for (const RestorePoint& point : core.Points()) {
      if (!point.suspect) steps.push_back(point.id.step.value());
    }
    return steps;
  }

  CoreHarness core;
  ConnectionId launcher = 0;
  Generation generation;
  RunGrant grant;
  std::vector<ConnectionId> ranks;
};

TEST_F(TrustCoreTest, ASuspectOneIsListedLastAndNewRunsHearOfAnOlderOne) {
  StartRun();
  for (const int step : {10, 20, 30}) core.Save(ranks, step);
  MakeSuspect(30);
  EXPECT_EQ(StepsOffered(), (Steps{20, 10}));
  const auto points = core.Points();
  ASSERT_EQ(points.size(), 3U);
  EXPECT_EQ(points.back().id.step, Step(30)) << "who asks for it by name finds it";
  EXPECT_TRUE(points.back().suspect);
  StartRun();
  EXPECT_EQ(grant.newest_step, Step(20));
  EXPECT_EQ(grant.suspects, 1U);
}

TEST_F(TrustCoreTest, WhenAllAreSuspectTheRunHearsOfNoStepAndOfTheSuspects) {
  StartRun();
  for (const int step : {10, 20}) core.Save(ranks, step);
  MakeSuspect(20);
  MakeSuspect(10);
  StartRun();
  EXPECT_EQ(grant.newest_step, std::nullopt);
  EXPECT_EQ(grant.suspects, 2U);
}

TEST_F(TrustCoreTest, IsAnsweredOnceTheMarkIsOnDiskAndCountsAtOnce) {
  StartRun();
  for (const int step : {10, 20}) core.Save(ranks, step);
  StartRun();
  const auto word = Say(Judgement::kDiverged, 20, generation);
  EXPECT_FALSE(core.Answered(word));
  EXPECT_EQ(StepsOffered(), (Steps{10}));
  ASSERT_TRUE(FinishMark());
  EXPECT_EQ(core.Answer<Judged>(word).trust.state, TrustState::kSuspect);
  const auto again = Say(Judgement::kDiverged, 20, generation);
  EXPECT_EQ(core.Answer<Judged>(again).trust.state, TrustState::kSuspect) << "heard twice";
  EXPECT_FALSE(FinishMark());
}

TEST_F(TrustCoreTest, AMarkThatCannotBeWrittenIsSaidAndHoldsUntilTheDaemonEnds) {
  StartRun();
  for (const int step : {10, 20}) core.Save(ranks, step);
  StartRun();
  const auto word = Say(Judgement::kDiverged, 20, generation);
  ASSERT_TRUE(FinishMark(base::Error{Code::kNoSpace, "full", nullptr}));
  EXPECT_EQ(core.CodeOf(word), Code::kNoSpace);
  EXPECT_EQ(StepsOffered(), (Steps{10}));
}

TEST_F(TrustCoreTest, OnlyTheNewestRunAndTheOwnerAreHeard) {
  StartRun();
  core.Save(ranks, 10);
  StartRun();
  EXPECT_EQ(core.CodeOf(Say(Judgement::kFailed, 10, Generation(1))), Code::kStaleGeneration);
  EXPECT_EQ(core.CodeOf(Say(Judgement::kFailed, 10, {})), Code::kStaleGeneration);
  EXPECT_EQ(core.CodeOf(Say(Judgement::kFailed, 99, generation)), Code::kNotFound);
  EXPECT_EQ(core.CodeOf(Say(static_cast<Judgement>(0), 10, generation)), Code::kInvalidArgument);
  EXPECT_EQ(core.CodeOf(Say(static_cast<Judgement>(7), 10, generation)), Code::kInvalidArgument);
  const auto stranger = core.Connect(4711);
  EXPECT_EQ(core.CodeOf(core.Ask(stranger, JudgeCheckpoint{kJob, Step(10), {}, Judgement::kSuspect, {}, "x"})),
            Code::kPermissionDenied);
  EXPECT_EQ(
      core.CodeOf(core.Ask(launcher, JudgeCheckpoint{{"default", "none"}, Step(1), {}, Judgement::kGood, {}, ""})),
      Code::kNotFound);
  EXPECT_EQ(core.Count<PersistTrust>(), 0U);
}

TEST_F(TrustCoreTest, RetentionKeepsAGoodOneInItsPlace) {
  StartRun();
  for (const int step : {10, 20, 30}) core.Save(ranks, step);
  MakeSuspect(30);
  StartRun({.keep_last = 2});
  core.Save(ranks, 40);
  EXPECT_EQ(StepsOffered(), (Steps{40, 20})) << "30 fills nobody's place";
}

TEST_F(TrustCoreTest, TheNewestThatIsNotSuspectIsTheOneThatRemovalProtects) {
  StartRun();
  for (const int step : {10, 20}) core.Save(ranks, step);
  MakeSuspect(20);
  const auto refused = core.Ask(launcher, RemoveCheckpoint{kJob, Step(10), {}, false});
  EXPECT_NE(core.CodeOf(refused), Code{0});
  const auto removed = core.Ask(launcher, RemoveCheckpoint{kJob, Step(20), {}, false});
  EXPECT_TRUE(core.FinishDelete());
  EXPECT_TRUE(core.Ok(removed));
}

TEST_F(TrustCoreTest, AReindexDoesNotBringBackWhatWasBelievedBeforeTheMark) {
  StartRun();
  for (const int step : {10, 20}) core.Save(ranks, step);
  StartRun();
  const auto reindex = core.Ask(launcher, Reindex{});
  Catalogue before;  // read before the mark is written
  before[kJob].generation = generation;
  for (const int step : {10, 20}) before[kJob].checkpoints[{Generation(1), Step(step)}] = {};
  Say(Judgement::kDiverged, 20, generation);
  const auto order = core.Take<RebuildIndex>();
  ASSERT_TRUE(order);
  core.Send(ReindexFinished{order->ref, std::nullopt, before, {}});
  EXPECT_TRUE(core.Ok(reindex));
  EXPECT_EQ(StepsOffered(), (Steps{10}));
  ASSERT_TRUE(FinishMark());
  EXPECT_EQ(StepsOffered(), (Steps{10}));
}

TEST_F(TrustCoreTest, APersonOffersItAgain) {
  StartRun();
  for (const int step : {10, 20}) core.Save(ranks, step);
  MakeSuspect(20);
  const auto word = Say(Judgement::kGood, 20, {});
  ASSERT_TRUE(FinishMark());
  EXPECT_EQ(core.Answer<Judged>(word).trust.state, TrustState::kGood);
  EXPECT_EQ(StepsOffered(), (Steps{20, 10}));
}

TEST_F(TrustCoreTest, OneThatIsInMemoryOnlyIsJudgedToo) {
  StartRun();
  core.Save(ranks, 10);
  ASSERT_TRUE(core.Ok(core.Ask(ranks[0], BeginSnapshot{Step(20), "interval"})));
  ASSERT_TRUE(core.Ok(core.Ask(ranks[0], CoreHarness::SealOf(0, 20))));
  ASSERT_TRUE(core.FinishWrite(base::Error{Code::kNoSpace, "full", nullptr}));
  ASSERT_TRUE(core.FinishManifest()) << "the memory is whole";
  core.FinishDiscard();
  ASSERT_EQ(StepsOffered(), (Steps{20, 10}));
  StartRun();
  const auto word = Say(Judgement::kDiverged, 20, generation);
  EXPECT_EQ(core.Answer<Judged>(word).trust.state, TrustState::kSuspect);
  EXPECT_EQ(StepsOffered(), (Steps{10}));
}

}  // namespace
}  // namespace belay::checkpoint::commit
