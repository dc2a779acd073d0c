// Runs: generations, launchers, attaching, staging memory, private daemons.
#include "tests/checkpoint/commit/core_harness.h"

namespace belay::checkpoint::commit {
namespace {

using base::Code;
using base::Generation;
using std::chrono::seconds;

TEST(RunsTest, GenerationsRiseAndAreDurableBeforeTheyAreGranted) {
  CoreHarness core;
  const auto launcher = core.Connect();
  const auto request = core.Ask(launcher, BeginRun{kJob, 2, "host", 7, {}});
  EXPECT_FALSE(core.Answered(request));
  core.Persist();
  EXPECT_EQ(core.Answer<RunGrant>(request).generation, Generation(1));
  EXPECT_FALSE(core.Answer<RunGrant>(request).newest_step.has_value());
  EXPECT_EQ(core.BeginRunOf(launcher, 2, 7, Generation(1)), Generation(2));
}

TEST(RunsTest, WhatTheJobsFolderKnewBetterIsTaken) {
  CoreHarness core;
  const ConnectionId launcher = core.Connect();
  const auto begin = core.Ask(launcher, BeginRun{kJob, 1, "host", 77, {}});
  const auto order = core.Take<PersistGeneration>();
  ASSERT_TRUE(order);
  CataloguedJob found{Generation(4), 0, {{{Generation(4), base::Step(30)}, CommittedInfo{}}}};
  core.Send(GenerationPersisted{kJob, Generation(5), std::nullopt, found});
  EXPECT_EQ(core.Answer<RunGrant>(begin).generation, Generation(5));
  EXPECT_EQ(core.Answer<RunGrant>(begin).newest_step, base::Step(30));
}

TEST(RunsTest, AGenerationThatCannotBeStoredIsNotGranted) {
  CoreHarness core;
  const auto launcher = core.Connect();
  const auto request = core.Ask(launcher, BeginRun{kJob, 2, "host", 7, {}});
  const auto order = core.Take<PersistGeneration>();
  ASSERT_TRUE(order);
  core.Send(GenerationPersisted{kJob, order->generation, base::Error{Code::kNoSpace, "full", nullptr}});
  EXPECT_EQ(core.CodeOf(request), Code::kNoSpace);
  EXPECT_EQ(core.BeginRunOf(launcher, 2), Generation(1));
}

TEST(RunsTest, GenerationsGoOnFromTheCatalogue) {
  Catalogue catalogue;
  catalogue[kJob].generation = Generation(41);
  catalogue[kJob].checkpoints[{Generation(40), base::Step(1200)}] = {};
  CoreHarness core(CoreHarness::Config(), catalogue);
  const auto launcher = core.Connect();
  const auto request = core.Ask(launcher, BeginRun{kJob, 2, "host", 7, {}});
  core.Persist();
  EXPECT_EQ(core.Answer<RunGrant>(request).generation, Generation(42));
  EXPECT_EQ(core.Answer<RunGrant>(request).newest_step, base::Step(1200));
}

TEST(RunsTest, ASecondLauncherIsRefusedWhileTheFirstLives) {
  CoreHarness core;
  const auto first = core.Connect();
  core.BeginRunOf(first, 2, 7);
  const auto second = core.Connect();
  EXPECT_EQ(core.CodeOf(core.Ask(second, BeginRun{kJob, 2, "host", 8, {}})), Code::kJobBusy);
  EXPECT_EQ(core.CodeOf(core.Ask(second, BeginRun{kJob, 2, "host", 8, Generation(1)})), Code::kJobBusy);
  core.Disconnect(first);
  EXPECT_EQ(core.BeginRunOf(second, 2, 8), Generation(2));
}

TEST(RunsTest, AGenerationThatNeverWasCannotBeContinued) {
  CoreHarness core;
  const auto launcher = core.Connect();
  const auto of = [&](std::uint64_t generation) {
    return core.CodeOf(core.Ask(launcher, BeginRun{kJob, 2, "host", 7, Generation(generation)}));
  };
  EXPECT_EQ(of(~std::uint64_t{0}), Code::kInvalidArgument) << "the next one would be 0";
  core.BeginRunOf(launcher, 2, 7);
  EXPECT_EQ(of(2), Code::kInvalidArgument);
}

TEST(RunsTest, ARankThatAttachesAgainAfterTheEndFindsItsMemory) {
  CoreHarness core;
  const auto launcher = core.Connect();
  const auto generation = core.BeginRunOf(launcher, 1);
  core.AttachRank(0, 1, generation);
  core.Ask(launcher, EndRun{kJob, generation, "done"});
  const auto again = core.Connect();
  EXPECT_TRUE(core.Answer<Attached>(core.Ask(again, CoreHarness::AttachOf(0, 1, generation))).reused);
  const auto larger = core.Connect();
  EXPECT_TRUE(core.Ok(core.Ask(larger, CoreHarness::AttachOf(0, 1, generation, 65536))));
}

TEST(RunsTest, MemoryThatCannotBeHadTakesNobodyElses) {
  CoreHarness core;
  const JobKey idle{"default", "idle"};
  const auto launcher = core.Connect();
  const auto first = core.BeginRunOf(launcher, 1, 77, {}, idle);
  const auto rank = core.AttachRank(0, 1, first, 8192, {}, idle);
  core.Save({rank}, 10);
  core.Disconnect(rank);
  core.Disconnect(launcher);
  ASSERT_TRUE(core.Points(idle).at(0).in_memory);

  const auto greedy = core.Connect();
  const auto generation = core.BeginRunOf(greedy, 1);
  const auto asker = core.Connect();
  EXPECT_EQ(core.CodeOf(core.Ask(asker, CoreHarness::AttachOf(0, 1, generation, 2 << 20))), Code::kNoSpace);
  EXPECT_TRUE(core.Points(idle).at(0).in_memory) << "all of it would not have been enough";
  EXPECT_TRUE(core.Ok(core.Ask(asker, CoreHarness::AttachOf(0, 1, generation, 1 << 20))));
  EXPECT_FALSE(core.Points(idle).at(0).in_memory) << "this time it was";
}

TEST(RunsTest, TwoLaunchersAtTheSameMomentGetOneGrant) {
  CoreHarness core;
  const auto first = core.Connect();
  const auto second = core.Connect();
  const auto one = core.Ask(first, BeginRun{kJob, 2, "host", 7, {}});
  EXPECT_EQ(core.CodeOf(core.Ask(second, BeginRun{kJob, 2, "host", 8, {}})), Code::kJobBusy);
  core.Persist();
  EXPECT_TRUE(core.Ok(one));
}

TEST(RunsTest, ALauncherThatConnectsAgainMayContinueItsRun) {
  CoreHarness core;
  const auto first = core.Connect();
  core.BeginRunOf(first, 2, 7);
  const auto again = core.Connect();
  EXPECT_EQ(core.BeginRunOf(again, 2, 7, Generation(1)), Generation(2));
}

TEST(RunsTest, ALauncherTakesHoldOfItsRunAgainAfterTheDaemonWasStartedAnew) {
  Catalogue catalogue;
  catalogue[kJob].generation = Generation(3);
  CoreHarness core(CoreHarness::Config(), catalogue);
  const auto launcher = core.Connect();
  EXPECT_TRUE(core.Ok(core.Ask(launcher, HoldRun{kJob, Generation(3), 2, "host", 7})));
  const auto second = core.Connect();
  EXPECT_EQ(core.CodeOf(core.Ask(second, BeginRun{kJob, 2, "host", 8, {}})), Code::kJobBusy);
  EXPECT_EQ(core.CodeOf(core.Ask(second, HoldRun{kJob, Generation(3), 2, "host", 8})), Code::kJobBusy);
  core.AttachRank(0, 2, Generation(3));
  EXPECT_EQ(core.CodeOf(core.Ask(core.Connect(), CoreHarness::AttachOf(1, 3, Generation(3)))), Code::kInvalidArgument)
      << "the world is known again";
  EXPECT_EQ(core.BeginRunOf(launcher, 2, 7, Generation(3)), Generation(4));
  core.Disconnect(launcher);
  EXPECT_EQ(core.BeginRunOf(second, 2, 8), Generation(5));
}

TEST(RunsTest, ARunThatIsNoLongerTheNewestIsNotHeldAgain) {
  CoreHarness core;
  const auto first = core.Connect();
  core.BeginRunOf(first, 2, 7);
  EXPECT_EQ(core.CodeOf(core.Ask(first, HoldRun{kJob, Generation(2), 2, "host", 7})), Code::kInvalidArgument);
  EXPECT_EQ(core.CodeOf(core.Ask(first, HoldRun{{"default", "none"}, Generation(1), 2, "host", 7})), Code::kNotFound);
  EXPECT_EQ(core.CodeOf(core.Ask(first, HoldRun{kJob, Generation(1), 0, "host", 7})), Code::kLimitExceeded);
  core.Disconnect(first);
  const auto second = core.Connect();
  const auto beginning = core.Ask(second, BeginRun{kJob, 2, "host", 8, {}});
  const auto back = core.Connect();
  EXPECT_EQ(core.CodeOf(core.Ask(back, HoldRun{kJob, Generation(1), 2, "host", 7})), Code::kStaleGeneration);
  core.Persist();
  EXPECT_EQ(core.Answer<RunGrant>(beginning).generation, Generation(2));
  EXPECT_EQ(core.CodeOf(core.Ask(back, HoldRun{kJob, Generation(1), 2, "host", 7})), Code::kStaleGeneration);
}

TEST(RunsTest, ContinuingAnOlderGenerationIsStale) {
  CoreHarness core;
  const auto launcher = core.Connect();
  core.BeginRunOf(launcher, 2);
  core.BeginRunOf(launcher, 2, 77, Generation(1));
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, BeginRun{kJob, 2, "host", 77, Generation(1)})), Code::kStaleGeneration);
}

TEST(RunsTest, BadNamesAndWorldsAreRefused) {
  CoreHarness core;
  const auto launcher = core.Connect();
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, BeginRun{{"default", "../x"}, 1, "", 1, {}})), Code::kInvalidArgument);
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, BeginRun{{".belayd", "x"}, 1, "", 1, {}})), Code::kInvalidArgument);
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, BeginRun{kJob, 0, "", 1, {}})), Code::kLimitExceeded);
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, BeginRun{kJob, 70000, "", 1, {}})), Code::kLimitExceeded);
  EXPECT_TRUE(core.core().state().jobs.empty());
}

TEST(RunsTest, EveryMessageOfAnOlderGenerationIsStale) {
  CoreHarness core;
  const auto launcher = core.Connect();
  const Generation old = core.BeginRunOf(launcher, 1);
  const auto rank = core.AttachRank(0, 1, old);
  core.BeginRunOf(launcher, 1, 77, old);
  EXPECT_EQ(core.CodeOf(core.Ask(rank, BeginSnapshot{base::Step(1), ""})), Code::kStaleGeneration);
  EXPECT_EQ(core.CodeOf(core.Ask(rank, CoreHarness::SealOf(0, 1))), Code::kStaleGeneration);
  EXPECT_EQ(core.CodeOf(core.Ask(rank, AbandonSnapshot{base::Step(1), ""})), Code::kStaleGeneration);
  EXPECT_EQ(core.CodeOf(core.Ask(rank, WaitSnapshot{base::Step(1), 0})), Code::kStaleGeneration);
  EXPECT_EQ(core.CodeOf(core.Ask(rank, CoreHarness::AttachOf(0, 1, old))), Code::kStaleGeneration);
  EXPECT_EQ(core.CodeOf(core.Ask(launcher, EndRun{kJob, old, "done"})), Code::kStaleGeneration);
}

TEST(RunsTest, AttachingChecksRankWorldAndGeneration) {
  CoreHarness core;
  const auto rank = core.Connect();
  EXPECT_EQ(core.CodeOf(core.Ask(rank, CoreHarness::AttachOf(0, 2, Generation(1)))), Code::kNotFound);
  const auto launcher = core.Connect();
  const Generation g = core.BeginRunOf(launcher, 2);
  EXPECT_EQ(core.CodeOf(core.Ask(rank, CoreHarness::AttachOf(2, 2, g))), Code::kInvalidArgument);
  EXPECT_EQ(core.CodeOf(core.Ask(rank, CoreHarness::AttachOf(-1, 2, g))), Code::kInvalidArgument);
  EXPECT_EQ(core.CodeOf(core.Ask(rank, CoreHarness::AttachOf(0, 3, g))), Code::kInvalidArgument);
  EXPECT_EQ(core.CodeOf(core.Ask(rank, CoreHarness::AttachOf(0, 2, Generation(9)))), Code::kInvalidArgument);
  EXPECT_EQ(core.CodeOf(core.Ask(rank, CoreHarness::AttachOf(0, 2, g, 0))), Code::kInvalidArgument);
  EXPECT_TRUE(core.Ok(core.Ask(rank, CoreHarness::AttachOf(0, 2, g))));
  EXPECT_EQ(core.CodeOf(core.Ask(rank, CoreHarness::AttachOf(1, 2, g))), Code::kInvalidArgument) << "one rank each";
}

TEST(RunsTest, StagingMemoryIsReusedWhenTheSizeIsTheSame) {
  CoreHarness core;
  const auto launcher = core.Connect();
  const Generation g = core.BeginRunOf(launcher, 1);
  const auto first = core.AttachRank(0, 1, g);
  core.Disconnect(first);
  const auto second = core.Connect();
  EXPECT_TRUE(core.Answer<Attached>(core.Ask(second, CoreHarness::AttachOf(0, 1, g))).reused);
  core.Disconnect(second);
  const auto third = core.Connect();
  const auto attached = core.Answer<Attached>(core.Ask(third, CoreHarness::AttachOf(0, 1, g, 20000)));
  EXPECT_FALSE(attached.reused);
  EXPECT_EQ(attached.staging_bytes, 20480U) << "whole pages";
  EXPECT_EQ(core.Count<FreeStaging>(), 1U);
}

Attach AttachFor(std::optional<std::int32_t> numa_node, base::Generation generation) {
  Attach attach = CoreHarness::AttachOf(0, 1, generation);
  attach.numa_node = numa_node;
  return attach;
}

TEST(RunsTest, StagingMemoryIsMadeForTheNodeThatTheRankAsksFor) {
  CoreHarness core;
  const Generation g = core.BeginRunOf(core.Connect(), 1);
  EXPECT_TRUE(core.Ok(core.Ask(core.Connect(), AttachFor(1, g))));
  EXPECT_EQ(core.Take<AllocateStaging>()->numa_node, 1);
  EXPECT_TRUE(core.Answer<Attached>(core.Ask(core.Connect(), AttachFor(1, g))).reused) << "the same node";
  EXPECT_TRUE(core.Answer<Attached>(core.Ask(core.Connect(), AttachFor(std::nullopt, g))).reused) << "any node";
  EXPECT_EQ(core.Count<AllocateStaging>(), 0U);
}

TEST(RunsTest, MemoryOnAnotherNodeIsMadeAnewIfItsSnapshotIsOnDisk) {
  CoreHarness core;
  const auto launcher = core.Connect();
  const Generation older = core.BeginRunOf(launcher, 1);
  const auto first = core.Connect();
  ASSERT_TRUE(core.Ok(core.Ask(first, AttachFor(0, older))));
  core.Save({first}, 10);
  core.Disconnect(first);
  core.orders.clear();
  const Generation newer = core.BeginRunOf(launcher, 1);
  EXPECT_FALSE(core.Answer<Attached>(core.Ask(core.Connect(), AttachFor(1, newer))).reused);
  EXPECT_EQ(core.Count<FreeStaging>(), 1U);
  EXPECT_EQ(core.Take<AllocateStaging>()->numa_node, 1);
  ASSERT_EQ(core.Points().size(), 1U);
  EXPECT_FALSE(core.Points().at(0).in_memory);
  EXPECT_TRUE(core.Points().at(0).committed);
}

TEST(RunsTest, MemoryThatHoldsTheOnlyCopyOfASnapshotIsKeptWhereverItLies) {
  CoreHarness core;
  const auto launcher = core.Connect();
  const Generation older = core.BeginRunOf(launcher, 1);
  const auto first = core.Connect();
  ASSERT_TRUE(core.Ok(core.Ask(first, AttachFor(0, older))));
  ASSERT_TRUE(core.Ok(core.Ask(first, BeginSnapshot{base::Step(10), "interval"})));
  ASSERT_TRUE(core.Ok(core.Ask(first, CoreHarness::SealOf(0, 10))));
  const auto again = core.Connect();
  EXPECT_TRUE(core.Answer<Attached>(core.Ask(again, AttachFor(1, older))).reused) << "it is being written";
  ASSERT_TRUE(core.FinishWrite(base::Error{Code::kNoSpace, "full", nullptr}));
  ASSERT_TRUE(core.FinishManifest());
  ASSERT_TRUE(core.FinishDiscard());
  core.Disconnect(again);
  const Generation newer = core.BeginRunOf(launcher, 1);
  EXPECT_TRUE(core.Answer<Attached>(core.Ask(core.Connect(), AttachFor(1, newer))).reused);
  ASSERT_EQ(core.Points().size(), 1U);
  EXPECT_TRUE(core.Points().at(0).in_memory);
  EXPECT_FALSE(core.Points().at(0).committed);
}

TEST(RunsTest, MemoryThatALivingRankOfAnOlderRunHasMappedIsNotReused) {
  CoreHarness core;
  const ConnectionId launcher = core.Connect();
  const auto older = core.BeginRunOf(launcher, 2);
  core.AttachRank(0, 2, older);  // hangs
  const ConnectionId dead = core.AttachRank(1, 2, older);
  core.Disconnect(dead);
  const auto newer = core.BeginRunOf(launcher, 2);
  EXPECT_FALSE(core.Answer<Attached>(core.Ask(core.Connect(), CoreHarness::AttachOf(0, 2, newer))).reused);
  EXPECT_TRUE(core.Answer<Attached>(core.Ask(core.Connect(), CoreHarness::AttachOf(1, 2, newer))).reused);
}

TEST(RunsTest, TheMemoryBudgetIsKeptAndTheMessageHasTheNumbers) {
  CoreConfig config = CoreHarness::Config();
  config.memory_budget_bytes = 16384;
  CoreHarness core(config);
  const auto launcher = core.Connect();
  const Generation g = core.BeginRunOf(launcher, 3);
  core.AttachRank(0, 3, g, 8192);
  const auto second = core.Connect();
  const auto refused = core.Ask(second, CoreHarness::AttachOf(1, 3, g, 12288));
  EXPECT_EQ(core.CodeOf(refused), Code::kNoSpace);
  EXPECT_NE(core.Answer<base::Error>(refused).message.find("12.0 KiB"), std::string::npos);
  EXPECT_NE(core.Answer<base::Error>(refused).message.find("16.0 KiB"), std::string::npos);
  EXPECT_TRUE(core.Ok(core.Ask(second, CoreHarness::AttachOf(1, 3, g, 8192))));
}

TEST(RunsTest, IdleStagingOfAnotherJobGivesWay) {
  CoreConfig config = CoreHarness::Config();
  config.memory_budget_bytes = 16384;
  CoreHarness core(config);
  const auto launcher = core.Connect();
  const Generation g = core.BeginRunOf(launcher, 1);
  const auto rank = core.AttachRank(0, 1, g, 16384);
  const JobKey other{"default", "other"};
  const auto second = core.Connect();
  const Generation h = core.BeginRunOf(second, 1, 78, {}, other);
  const auto late = core.Connect();
  EXPECT_EQ(core.CodeOf(core.Ask(late, CoreHarness::AttachOf(0, 1, h, 8192, {}, other))), Code::kNoSpace)
      << "the first job is alive";
  core.Disconnect(rank);
  core.Disconnect(launcher);
  EXPECT_TRUE(core.Ok(core.Ask(late, CoreHarness::AttachOf(0, 1, h, 8192, {}, other))));
  EXPECT_EQ(core.Count<FreeStaging>(), 1U);
}

TEST(RunsTest, StagingThatCannotBeMadeIsAnErrorAndLeavesNothing) {
  CoreHarness core;
  core.auto_allocate = false;
  const auto launcher = core.Connect();
  const Generation g = core.BeginRunOf(launcher, 1);
  const auto rank = core.Connect();
  const auto request = core.Ask(rank, CoreHarness::AttachOf(0, 1, g));
  EXPECT_FALSE(core.Answered(request));
  const auto order = core.Take<AllocateStaging>();
  core.Send(StagingAllocated{order->ref, kJob, base::Rank(0), base::Error{Code::kOutOfMemory, "none", nullptr}});
  EXPECT_EQ(core.CodeOf(request), Code::kOutOfMemory);
  core.auto_allocate = true;
  EXPECT_TRUE(core.Ok(core.Ask(rank, CoreHarness::AttachOf(0, 1, g))));
}

TEST(RunsTest, ARunThatIsDoneFreesItsMemoryOnceItsRanksHaveLeft) {
  CoreHarness core;
  const auto launcher = core.Connect();
  const Generation g = core.BeginRunOf(launcher, 1);
  const auto rank = core.AttachRank(0, 1, g);
  core.Save({rank}, 10);
  EXPECT_TRUE(core.Points().at(0).in_memory);
  EXPECT_TRUE(core.Ok(core.Ask(launcher, EndRun{kJob, g, "done"})));
  EXPECT_EQ(core.Count<FreeStaging>(), 0U);
  core.Disconnect(rank);
  EXPECT_EQ(core.Count<FreeStaging>(), 1U);
  EXPECT_FALSE(core.Points().at(0).in_memory);
}

TEST(RunsTest, APreemptedRunKeepsItsSnapshotInMemory) {
  CoreHarness core;
  const auto launcher = core.Connect();
  const Generation g = core.BeginRunOf(launcher, 1);
  const auto rank = core.AttachRank(0, 1, g);
  core.Save({rank}, 10);
  core.Disconnect(rank);
  EXPECT_TRUE(core.Ok(core.Ask(launcher, EndRun{kJob, g, "preempted"})));
  EXPECT_TRUE(core.Points().at(0).in_memory);
}

TEST(RunsTest, OtherUsersAreKeptOut) {
  CoreHarness core;
  const auto owner = core.Connect(1000);
  const Generation g = core.BeginRunOf(owner, 1);
  const auto rank = core.AttachRank(0, 1, g);  // as root, who may
  core.Save({rank}, 10);
  const auto stranger = core.Connect(2000);
  const base::Step ten(10);
  EXPECT_EQ(core.CodeOf(core.Ask(stranger, BeginRun{kJob, 1, "", 1, {}})), Code::kPermissionDenied);
  EXPECT_EQ(core.CodeOf(core.Ask(stranger, CoreHarness::AttachOf(0, 1, g))), Code::kPermissionDenied);
  EXPECT_EQ(core.CodeOf(core.Ask(stranger, EndRun{kJob, g, "done"})), Code::kPermissionDenied);
  EXPECT_EQ(core.CodeOf(core.Ask(stranger, RestorePoints{kJob})), Code::kPermissionDenied);
  EXPECT_EQ(core.CodeOf(core.Ask(stranger, OpenCheckpoint{kJob, ten, {}, true, {}})), Code::kPermissionDenied);
  EXPECT_EQ(core.CodeOf(core.Ask(stranger, PinCheckpoint{kJob, ten, {}, true})), Code::kPermissionDenied);
  EXPECT_EQ(core.CodeOf(core.Ask(stranger, RemoveCheckpoint{kJob, ten, {}, true})), Code::kPermissionDenied);
  EXPECT_EQ(core.CodeOf(core.Ask(stranger, Reindex{})), Code::kPermissionDenied);
  EXPECT_EQ(core.CodeOf(core.Ask(stranger, DaemonStop{true})), Code::kPermissionDenied);
  EXPECT_TRUE(core.Answer<std::vector<CheckpointInfo>>(core.Ask(stranger, ListCheckpoints{})).empty());
  EXPECT_EQ(core.Answer<StatusReport>(core.Ask(stranger, DaemonStatus{})).checkpoints, 0U);
  EXPECT_EQ(core.Answer<std::vector<CheckpointInfo>>(core.Ask(owner, ListCheckpoints{})).size(), 1U);
}

TEST(RunsTest, APrivateDaemonLeavesAfterItsLastClient) {
  CoreConfig config = CoreHarness::Config();
  config.is_private = true;
  CoreHarness core(config);
  ASSERT_TRUE(core.core().NextDeadline()) << "nobody may ever come";
  const auto client = core.Connect();
  EXPECT_FALSE(core.core().NextDeadline());
  core.now += seconds(100);
  core.Send(Tick{});
  EXPECT_EQ(core.Count<Exit>(), 0U);
  core.Disconnect(client);
  EXPECT_EQ(core.core().NextDeadline(), core.now + config.linger);
  core.now += config.linger;
  core.Send(Tick{});
  EXPECT_EQ(core.Count<Exit>(), 1U);
}

TEST(RunsTest, APrivateDaemonStaysUntilASealedSnapshotIsCommitted) {
  CoreConfig config = CoreHarness::Config();
  config.is_private = true;
  CoreHarness core(config);
  const auto launcher = core.Connect();
  const Generation g = core.BeginRunOf(launcher, 1);
  const auto rank = core.AttachRank(0, 1, g);
  ASSERT_TRUE(core.Ok(core.Ask(rank, BeginSnapshot{base::Step(1), ""})));
  ASSERT_TRUE(core.Ok(core.Ask(rank, CoreHarness::SealOf(0, 1))));
  core.Disconnect(rank);
  core.Disconnect(launcher);
  core.now += seconds(60);
  core.Send(Tick{});
  EXPECT_EQ(core.Count<Exit>(), 0U);
  core.FinishWrite();
  core.FinishManifest();
  EXPECT_EQ(core.Count<Exit>(), 1U);
}

TEST(RunsTest, StoppingDrainsWhatIsSealedAndGivesUpTheRest) {
  CoreHarness core;
  const auto launcher = core.Connect();
  const Generation g = core.BeginRunOf(launcher, 1);
  const auto sealed = core.AttachRank(0, 1, g);
  const JobKey other{"default", "other"};
  const Generation h = core.BeginRunOf(core.Connect(), 1, 5, {}, other);
  const auto filling = core.AttachRank(0, 1, h, 8192, {}, other);
  core.Ask(sealed, BeginSnapshot{base::Step(1), ""});
  core.Ask(sealed, CoreHarness::SealOf(0, 1));
  core.Ask(filling, BeginSnapshot{base::Step(1), ""});
  core.Send(StopSignal{});
  EXPECT_EQ(core.CodeOf(core.Ask(filling, CoreHarness::SealOf(0, 1))), Code::kUnavailable);
  EXPECT_EQ(core.CodeOf(core.Ask(core.Connect(), BeginRun{kJob, 1, "", 1, {}})), Code::kUnavailable);
  EXPECT_EQ(core.Count<Exit>(), 0U);
  EXPECT_TRUE(core.FinishDiscard());
  EXPECT_EQ(core.Count<Exit>(), 0U);
  core.FinishWrite();
  core.FinishManifest();
  EXPECT_EQ(core.Count<Exit>(), 1U);
}

TEST(RunsTest, APrivateDaemonOutlivesASignalThatItsRunGetsToo) {
  CoreConfig config = CoreHarness::Config();
  config.is_private = true;
  CoreHarness core(config);
  const auto launcher = core.Connect();
  const auto rank = core.AttachRank(0, 1, core.BeginRunOf(launcher, 1));
  core.Send(StopSignal{});
  EXPECT_EQ(core.Count<Note>(), 1U) << "the log says why it stays";
  core.Save({rank}, 10);
  core.Disconnect(rank);
  core.Disconnect(launcher);
  EXPECT_EQ(core.Count<Exit>(), 0U);
  core.Send(StopSignal{});  // nobody is there any more
  EXPECT_EQ(core.Count<Exit>(), 1U);
}

TEST(RunsTest, AStopIsRefusedWhileARunIsAliveUnlessForced) {
  CoreHarness core;
  const auto launcher = core.Connect();
  core.BeginRunOf(launcher, 1);
  const auto admin = core.Connect();
  EXPECT_EQ(core.CodeOf(core.Ask(admin, DaemonStop{false})), Code::kBusy);
  EXPECT_TRUE(core.Ok(core.Ask(admin, DaemonStop{true})));
  EXPECT_EQ(core.Count<Exit>(), 1U);
}

}  // namespace
}  // namespace belay::checkpoint::commit
