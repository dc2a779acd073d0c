// A core that hands over what is in memory, and one that takes it up.
#include "checkpoint/format/manifest.h"
#include "tests/checkpoint/commit/core_harness.h"

namespace belay::checkpoint::commit {
namespace {

using base::Code;
using base::Generation;
using std::chrono::seconds;

constexpr std::uint32_t kOwner = 1000;

class RestartTest : public testing::Test {
 protected:
  static CoreConfig Config(bool is_private = false, bool clients_awaited = false) {
    CoreConfig config = CoreHarness::Config();
    config.daemon_uid = kOwner;
    config.is_private = is_private;
    config.clients_awaited = clients_awaited;
    return config;
  }
  static Manifest ManifestOf(std::int64_t step) {
    Manifest manifest;
    manifest.project = kJob.project;
    manifest.job = kJob.job;
    manifest.step = base::Step(step);
    manifest.generation = Generation(1);
    manifest.world_size = 2;
    manifest.reason = "interval";
    manifest.created = "2026-01-01T00:00:00Z";
    for (int rank = 0; rank < 2; ++rank) {
      manifest.layout_fingerprints[base::Rank(rank)] = "fingerprint";
      const auto seal = CoreHarness::SealOf(rank, step);
      const std::string digest(64, 'a');
      manifest.files.push_back(
          {seal.files[0].name, seal.files[0].bytes, "shard", base::Rank(rank), 4096, digest, digest, {}});
      manifest.files.push_back({RecordsFileName(base::Rank(rank)), 2, "records", base::Rank(rank), 0, digest, "", {}});
    }
    return manifest;
  }
  // Two ranks that have saved a step; it is committed and in memory.
  std::vector<ConnectionId> SaveOf(CoreHarness& core, std::int64_t step = 100) {
    launcher = core.Connect(kOwner, 77);
    core.BeginRunOf(launcher, 2);
    std::vector<ConnectionId> ranks;
    for (int rank = 0; rank < 2; ++rank) ranks.push_back(core.AttachRank(rank, 2, Generation(1)));
    for (const ConnectionId rank : ranks) core.Ask(rank, BeginSnapshot{base::Step(step), "interval"});
    for (int rank = 0; rank < 2; ++rank) {
      core.Ask(ranks[static_cast<std::size_t>(rank)], CoreHarness::SealOf(rank, step));
    }
    while (core.FinishWrite()) {
    }
    const auto order = core.Take<PublishManifest>();
    const std::string text = EncodeManifest(ManifestOf(step));
    info.digest = DecodeManifest(text)->digest;
    info.world_size = 2;
    core.Send(ManifestFinished{order->job, order->id, std::nullopt, text, info});
    return ranks;
  }
  // What the files say to the next daemon.
  Catalogue Files() const {
    Catalogue catalogue;
    catalogue[kJob].generation = Generation(1);
    catalogue[kJob].owner_uid = kOwner;
    catalogue[kJob].checkpoints[{Generation(1), base::Step(100)}] = info;
    return catalogue;
  }
  HandedOver HandedOverBy(CoreHarness& core) {
    const ConnectionId admin = core.Connect(kOwner);
    core.Ask(admin, DaemonRestart{});
    const auto check = core.Take<CheckSuccessor>();
    EXPECT_TRUE(check);
    core.Send(SuccessorChecked{check->ref, std::nullopt});
    const auto exit = core.Take<Exit>();
    EXPECT_TRUE(exit && exit->restart);
    return core.core().HandOver();
  }

  ConnectionId launcher = 0;
  CommittedInfo info;
};

TEST_F(RestartTest, WhatIsInMemoryIsOfferedAgain) {
  CoreHarness old(Config());
  SaveOf(old);
  const HandedOver handed = HandedOverBy(old);
  EXPECT_TRUE(handed.clients_awaited);
  ASSERT_EQ(handed.jobs.size(), 1U);
  ASSERT_EQ(handed.jobs[0].slots.size(), 2U);

  CoreHarness next(Config(), Files());
  const base::Status taken = next.core().TakeUp(handed.jobs[0]);
  ASSERT_TRUE(taken) << taken.error().Text();
  const auto points = next.Points();
  ASSERT_EQ(points.size(), 1U);
  EXPECT_TRUE(points[0].in_memory);
  EXPECT_TRUE(points[0].committed);
  const ConnectionId client = next.Connect(kOwner);
  next.Ask(client, OpenCheckpoint{kJob, base::Step(100), {}, true, {RecordsFileName(base::Rank(1))}});
  const auto open = next.Take<OpenFromMemory>();
  ASSERT_TRUE(open);
  EXPECT_EQ(*open->files[0].records, "{}");
}

TEST_F(RestartTest, WhatWasNeverCommittedStaysToo) {
  CoreHarness old(Config());
  SaveOf(old);
  const HandedOver handed = HandedOverBy(old);
  Catalogue files = Files();
  files[kJob].checkpoints.clear();
  CoreHarness next(Config(), std::move(files));
  ASSERT_TRUE(next.core().TakeUp(handed.jobs[0]));
  ASSERT_EQ(next.Points().size(), 1U);
  EXPECT_FALSE(next.Points()[0].committed);
}

TEST_F(RestartTest, WhatDoesNotFitTheFilesOrItselfIsNotTakenUp) {
  CoreHarness old(Config());
  SaveOf(old);
  const HandedJob good = HandedOverBy(old).jobs.at(0);
  const auto refused = [&](const Catalogue& files, const HandedJob& job) {
    CoreHarness next(Config(), files);
    const base::Status taken = next.core().TakeUp(job);
    EXPECT_FALSE(taken);
    for (const auto& point : next.Points()) EXPECT_FALSE(point.in_memory);
    for (const auto& [key, known] : next.core().state().jobs) EXPECT_TRUE(known.staging.empty());
    return taken ? std::string() : taken.error().Text();
  };
  EXPECT_NE(refused({}, good).find("no folder"), std::string::npos);
  Catalogue files = Files();
  files[kJob].generation = Generation(2);
  EXPECT_NE(refused(files, good).find("generation"), std::string::npos);
  files = Files();
  files[kJob].checkpoints.begin()->second.digest = "another";
  EXPECT_NE(refused(files, good).find("not what is committed"), std::string::npos);

  HandedJob bad = good;
  bad.slots[1].rank = base::Rank(0);
  EXPECT_NE(refused(Files(), bad).find("comes twice"), std::string::npos);
  bad = good;
  bad.slots[0].slot.bytes = bad.slots[0].slot.image_bytes = 4000;  // its file needs 4096
  EXPECT_NE(refused(Files(), bad).find("outside the staging memory"), std::string::npos);
  bad = good;
  bad.slots[0].slot.buffers[0].files[0].name = "../../etc/passwd";
  refused(Files(), bad);
  bad = good;
  bad.slots[0].slot.buffers[0].files[0].bytes = 100;  // the manifest says 4096
  EXPECT_NE(refused(Files(), bad).find("other files"), std::string::npos);
  bad = good;
  bad.slots[0].slot.buffers[0].records.reset();
  EXPECT_NE(refused(Files(), bad).find("no records"), std::string::npos);
  bad = good;
  bad.memory->id.step = base::Step(200);
  EXPECT_NE(refused(Files(), bad).find("another checkpoint's"), std::string::npos);
  bad = good;
  bad.memory->manifest += " ";
  bad.memory->manifest[5] = '?';
  refused(Files(), bad);
  bad = good;
  bad.world_size = -1;
  refused(Files(), bad);
}

TEST_F(RestartTest, AMemoryThatAnOlderProcessMayHaveMappedIsNotGivenToANewerRun) {
  CoreHarness old(Config());
  const auto ranks = SaveOf(old);
  const std::int32_t pid_of_rank_1 = old.core().state().connections.at(ranks[1]).pid;
  const HandedOver handed = HandedOverBy(old);
  CoreHarness next(Config(), Files());
  ASSERT_TRUE(next.core().TakeUp(handed.jobs[0]));
  // A rank of the same generation comes back to what it has mapped.
  const ConnectionId same = next.Connect(kOwner, 9001);
  EXPECT_TRUE(next.Answer<Attached>(next.Ask(same, CoreHarness::AttachOf(0, 2, Generation(1)))).reused);
  next.Disconnect(same);
  const ConnectionId launcher_again = next.Connect(kOwner, 77);
  ASSERT_EQ(next.BeginRunOf(launcher_again, 2, 77, Generation(1)), Generation(2));
  // Its connection has ended since, as every process's does: rank 0's memory is free for the next generation. Rank 1
  // was not heard of since the restart: only its own process gets that memory.
  const ConnectionId rank_0 = next.Connect(kOwner, 9002);
  EXPECT_TRUE(next.Answer<Attached>(next.Ask(rank_0, CoreHarness::AttachOf(0, 2, Generation(2)))).reused);
  const ConnectionId itself = next.Connect(kOwner, pid_of_rank_1);
  EXPECT_TRUE(next.Answer<Attached>(next.Ask(itself, CoreHarness::AttachOf(1, 2, Generation(2)))).reused);

  CoreHarness other(Config(), Files());
  ASSERT_TRUE(other.core().TakeUp(handed.jobs[0]));
  const ConnectionId launcher_there = other.Connect(kOwner, 77);
  ASSERT_EQ(other.BeginRunOf(launcher_there, 2, 77, Generation(1)), Generation(2));
  const ConnectionId stranger = other.Connect(kOwner, 9003);
  EXPECT_FALSE(other.Answer<Attached>(other.Ask(stranger, CoreHarness::AttachOf(1, 2, Generation(2)))).reused);
}

TEST_F(RestartTest, TheJobIsKeptForItsLauncherUntilItIsLate) {
  CoreHarness old(Config());
  SaveOf(old);
  const HandedOver handed = HandedOverBy(old);
  CoreHarness next(Config(false, handed.clients_awaited), Files());
  ASSERT_TRUE(next.core().TakeUp(handed.jobs[0]));
  const ConnectionId stranger = next.Connect(kOwner, 88);
  EXPECT_EQ(next.CodeOf(next.Ask(stranger, BeginRun{kJob, 2, "host", 88, {}})), Code::kJobBusy);
  const ConnectionId back = next.Connect(kOwner, 77);
  EXPECT_TRUE(next.Ok(next.Ask(back, HoldRun{kJob, Generation(1), 2, "host", 77})));
  next.now += seconds(60);
  next.Send(Tick{});
  EXPECT_EQ(next.CodeOf(next.Ask(stranger, BeginRun{kJob, 2, "host", 88, {}})), Code::kJobBusy) << "it came back";

  CoreHarness forgotten(Config(false, true), Files());
  ASSERT_TRUE(forgotten.core().TakeUp(handed.jobs[0]));
  const ConnectionId another = forgotten.Connect(kOwner, 88);
  ASSERT_EQ(*forgotten.core().NextDeadline(), base::SteadyTime(kReunionPatience));
  forgotten.now += kReunionPatience;
  forgotten.Send(Tick{});
  EXPECT_EQ(forgotten.BeginRunOf(another, 2, 88), Generation(2));
}

TEST_F(RestartTest, APrivateDaemonLeavesOnlyOnceNobodyIsExpectedBack) {
  CoreHarness next(Config(true, true), Files());
  const ConnectionId look = next.Connect(kOwner);
  next.Disconnect(look);
  next.now += seconds(5);
  next.Send(Tick{});
  EXPECT_FALSE(next.Take<Exit>());
  next.Send(StopSignal{});
  EXPECT_FALSE(next.Take<Exit>()) << "a signal to the whole run";
  next.now = *next.core().NextDeadline();
  next.Send(Tick{});
  EXPECT_TRUE(next.Take<Exit>());
}

TEST_F(RestartTest, NothingUnderWayIsEndedForARestart) {
  CoreHarness core(Config());
  const auto ranks = SaveOf(core);
  for (const ConnectionId rank : ranks) {
    ASSERT_TRUE(core.Ok(core.Ask(rank, BeginSnapshot{base::Step(200), "interval"})));
  }
  const ConnectionId admin = core.Connect(kOwner);
  const auto asked = core.Ask(admin, DaemonRestart{});
  core.Send(SuccessorChecked{core.Take<CheckSuccessor>()->ref, std::nullopt});
  EXPECT_FALSE(core.Answered(asked));
  // A rank that goes on to a later step would end the snapshot, so only a new one's beginning is told to wait.
  for (int rank = 0; rank < 2; ++rank) {
    ASSERT_TRUE(core.Ok(core.Ask(ranks[static_cast<std::size_t>(rank)], CoreHarness::SealOf(rank, 200))));
  }
  while (core.FinishWrite()) {
  }
  EXPECT_FALSE(core.Take<Exit>());
  ASSERT_TRUE(core.FinishManifest());
  EXPECT_TRUE(core.Ok(asked));
  const auto exit = core.Take<Exit>();
  EXPECT_TRUE(exit && exit->restart);
}

TEST_F(RestartTest, OneThatWaitsTooLongIsGivenUpAndSavesGoOn) {
  CoreHarness core(Config());
  const auto ranks = SaveOf(core);
  for (const ConnectionId rank : ranks) core.Ask(rank, BeginSnapshot{base::Step(200), "interval"});
  const ConnectionId admin = core.Connect(kOwner);
  const auto asked = core.Ask(admin, DaemonRestart{});
  core.Send(SuccessorChecked{core.Take<CheckSuccessor>()->ref, std::nullopt});
  EXPECT_EQ(*core.core().NextDeadline(), base::SteadyTime(kDrainPatience));
  core.now += kDrainPatience;
  core.Send(Tick{});
  EXPECT_EQ(core.CodeOf(asked), Code::kTimeout);
  EXPECT_NE(std::get<base::Error>(core.replies[asked]).message.find("still saving step 200"), std::string::npos);
  EXPECT_FALSE(core.Take<Exit>());
  EXPECT_TRUE(core.Ok(core.Ask(ranks[0], CoreHarness::SealOf(0, 200))));
}

TEST_F(RestartTest, AnotherSaveBeginsAfterwards) {
  CoreHarness core(Config());
  const auto ranks = SaveOf(core);
  const JobKey other{"default", "other"};
  const ConnectionId its_launcher = core.Connect(kOwner, 5);
  core.BeginRunOf(its_launcher, 1, 5, {}, other);
  const ConnectionId its_rank = core.AttachRank(0, 1, Generation(1), 8192, {}, other);
  for (const ConnectionId rank : ranks) core.Ask(rank, BeginSnapshot{base::Step(200), "interval"});
  const ConnectionId admin = core.Connect(kOwner);
  core.Ask(admin, DaemonRestart{});
  const auto before = core.Ask(its_rank, BeginSnapshot{base::Step(1), "interval"});
  EXPECT_TRUE(core.Ok(before)) << "the new program is only being tried";
  EXPECT_TRUE(core.Ok(core.Ask(its_rank, AbandonSnapshot{base::Step(1), "for the test"})));
  core.FinishDiscard();
  core.Send(SuccessorChecked{core.Take<CheckSuccessor>()->ref, std::nullopt});
  EXPECT_EQ(core.CodeOf(core.Ask(its_rank, BeginSnapshot{base::Step(2), "interval"})), Code::kBusy);
}

TEST_F(RestartTest, AProgramThatIsNoGoodLeavesEverythingAsItWas) {
  CoreHarness core(Config());
  const auto ranks = SaveOf(core);
  const ConnectionId admin = core.Connect(kOwner);
  const auto asked = core.Ask(admin, DaemonRestart{});
  const auto twice = core.Ask(admin, DaemonRestart{});
  EXPECT_EQ(core.CodeOf(twice), Code::kBusy);
  core.Send(SuccessorChecked{core.Take<CheckSuccessor>()->ref, base::Error{Code::kUnavailable, "missing", nullptr}});
  EXPECT_EQ(core.CodeOf(asked), Code::kUnavailable);
  EXPECT_FALSE(core.Take<Exit>());
  EXPECT_TRUE(core.Ok(core.Ask(ranks[0], BeginSnapshot{base::Step(200), "interval"})));
}

TEST_F(RestartTest, WhoStopsItWins) {
  CoreHarness core(Config());
  SaveOf(core);
  const ConnectionId admin = core.Connect(kOwner);
  const auto asked = core.Ask(admin, DaemonRestart{});
  const auto check = core.Take<CheckSuccessor>();
  core.Send(StopSignal{});
  EXPECT_EQ(core.CodeOf(asked), Code::kUnavailable);
  const auto exit = core.Take<Exit>();
  EXPECT_TRUE(exit && !exit->restart);
  core.Send(SuccessorChecked{check->ref, std::nullopt});
  EXPECT_FALSE(core.Take<Exit>());
}

TEST_F(RestartTest, OnlyItsOwnUserAndRootMayAsk) {
  CoreHarness core(Config());
  const auto asked = core.Ask(core.Connect(kOwner + 1), DaemonRestart{});
  EXPECT_EQ(core.CodeOf(asked), Code::kPermissionDenied);
  EXPECT_FALSE(core.Take<CheckSuccessor>());
}

TEST_F(RestartTest, TheMemoryOfARunThatIsDoneIsNotHandedOn) {
  CoreHarness old(Config());
  SaveOf(old);
  ASSERT_TRUE(old.Ok(old.Ask(launcher, EndRun{kJob, Generation(1), "done"})));
  EXPECT_TRUE(HandedOverBy(old).jobs.empty());
}

}  // namespace
}  // namespace belay::checkpoint::commit
