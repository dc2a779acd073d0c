// A belayd that another takes the place of: what is in memory stays, clients find the new one, and where it cannot be
// done the old one goes on.
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "checkpoint/daemon/handover.h"
#include "runtime/base/error_codes.h"
#include "tests/checkpoint/daemon/daemon_harness.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using Steps = std::vector<std::int64_t>;

std::uint32_t Number(Code code) { return static_cast<std::uint32_t>(code); }

wire::Request RestartRequest() {
  wire::Request request;
  request.mutable_daemon_restart();
  return request;
}

wire::DaemonReport ReportOf(const DaemonUnderTest& daemon) {
  wire::Request request;
  request.mutable_daemon_status();
  return RawClient(daemon.socket()).Ask(std::move(request)).response.daemon_report();
}

// Asks, and waits until the asker's connection ends. The next one to connect talks to whoever came after.
Answer Restart(const DaemonUnderTest& daemon) {
  RawClient admin(daemon.socket());
  Answer answer = admin.Ask(RestartRequest());
  if (answer.ok()) {
    EXPECT_TRUE(admin.Receive().broken);
  }
  return answer;
}

wire::Request Hold(const std::string& job, std::uint64_t generation, int world, int pid) {
  wire::Request request;
  wire::HoldRun& hold = *request.mutable_hold_run();
  hold.mutable_key()->set_project("default");
  hold.mutable_key()->set_job(job);
  hold.set_generation(generation);
  hold.set_world_size(world);
  hold.set_host("here");
  hold.set_pid(pid);
  return request;
}

class RestartTest : public testing::Test {
 protected:
  // A belayd that was started from a path of its own, so that a test can put another program there.
  void StartInstalled(const DaemonOptions& options = {}) {
    installed_ = daemon.scratch() + "/belayd";
    std::filesystem::create_symlink(BELAYD_PROGRAM, installed_);
    DaemonOptions all = options;
    all.program = installed_;
    daemon.Start(all);
  }
  void Install(const std::string& script) {
    std::filesystem::remove(installed_);
    if (script.empty()) return;
    std::ofstream(installed_) << "#!/bin/sh\n" << script << "\n";
    std::filesystem::permissions(installed_, std::filesystem::perms::owner_all);
  }
  // Saved, committed, and in memory.
  std::vector<std::unique_ptr<TestRank>> SaveOnce(std::int64_t step = 100) {
    launcher = std::make_unique<RawClient>(daemon.socket());
    EXPECT_TRUE(launcher->BeginRun("gpt", 2).ok());
    auto ranks = AttachAll(daemon, "gpt", 1, 2);
    EXPECT_EQ(Save(ranks, step).response.snapshot_outcome().state(), wire::COMMITTED);
    return ranks;
  }
  // The files of the checkpoint are damaged, so that only memory can give it back.
  void DamageFiles(std::int64_t step) {
    const std::string folder =
        daemon.data_dir() + "/default/gpt/" + CheckpointDirectoryName(base::Step(step), base::Generation(1));
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      if (entry.path().extension() == ".safetensors") std::filesystem::resize_file(entry.path(), 10);
    }
  }
  void ExpectGoesOnAsItWas(std::vector<std::unique_ptr<TestRank>>& ranks) {
    EXPECT_TRUE(daemon.Running());
    EXPECT_EQ(CheckContent(*launcher, "gpt", 100, 2, true), "") << "the connection and the memory are still there";
    EXPECT_EQ(Save(ranks, 200).response.snapshot_outcome().state(), wire::COMMITTED);
  }

  DaemonUnderTest daemon;
  std::unique_ptr<RawClient> launcher;
  std::string installed_;
};

TEST_F(RestartTest, TheSnapshotInMemorySurvivesWithTheSamePidAndIsRestoredFromThere) {
  daemon.Start();
  auto ranks = SaveOnce();
  const std::string instance = launcher->welcome().instance();
  const Answer answer = Restart(daemon);
  ASSERT_TRUE(answer.ok()) << answer;
  EXPECT_TRUE(ranks[0]->client().Receive().broken) << "every connection ends";

  DamageFiles(100);
  RawClient client(daemon.socket());
  EXPECT_EQ(client.welcome().pid(), daemon.pid());
  EXPECT_NE(client.welcome().instance(), instance);
  const Answer points = client.Points("gpt");
  ASSERT_EQ(points.response.restore_point_list().points_size(), 1);
  EXPECT_TRUE(points.response.restore_point_list().points(0).in_memory());
  EXPECT_TRUE(points.response.restore_point_list().points(0).committed());
  EXPECT_EQ(CheckContent(client, "gpt", 100, 2, true), "");
  EXPECT_NE(CheckContent(client, "gpt", 100, 2, false), "") << "it did come from memory";
  const wire::RestartReport report = ReportOf(daemon).restart();
  EXPECT_EQ(report.attempts(), 1U);
  EXPECT_EQ(report.failure() + report.lost(), "");
  EXPECT_FALSE(report.from_version().empty());
  EXPECT_EQ(report.snapshots(), 1U);
  EXPECT_GT(report.bytes(), 2U << 20);

  // And once more: what was taken up is handed on.
  client.Close();
  ASSERT_TRUE(Restart(daemon).ok());
  RawClient third(daemon.socket());
  EXPECT_EQ(CheckContent(third, "gpt", 100, 2, true), "");
  EXPECT_EQ(ReportOf(daemon).restart().attempts(), 2U);
  third.Close();
  EXPECT_EQ(daemon.Stop(), 0);
  EXPECT_FALSE(std::filesystem::exists(daemon.socket()));
}

TEST_F(RestartTest, LauncherAndRanksGoOnInTheirGeneration) {
  daemon.Start();
  { auto gone = SaveOnce(); }
  ASSERT_TRUE(Restart(daemon).ok());
  // The job is kept for its launcher, which was connected.
  RawClient other(daemon.socket());
  EXPECT_EQ(other.BeginRun("gpt", 2, 0, 5555).code(), Number(Code::kJobBusy));
  RawClient back(daemon.socket());
  EXPECT_TRUE(back.Ask(Hold("gpt", 1, 2, 4242)).ok());
  auto ranks = AttachAll(daemon, "gpt", 1, 2);
  EXPECT_TRUE(ranks[0]->attached().response.attached().reused());
  EXPECT_EQ(CheckContent(back, "gpt", 100, 2, true), "") << "attaching leaves it until all have begun to save";
  EXPECT_EQ(Save(ranks, 200).response.snapshot_outcome().state(), wire::COMMITTED);
  EXPECT_EQ(CheckContent(back, "gpt", 200, 2, true), "");
  EXPECT_EQ(StepsListed(back, "gpt"), (Steps{100, 200}));
  // The next generation is one that nobody has had.
  EXPECT_EQ(back.BeginRun("gpt", 2, 1).response.run_grant().generation(), 2U);
}

TEST_F(RestartTest, ANewRunBeginsFromWhatStayedInMemory) {
  daemon.Start();
  auto ranks = SaveOnce();
  ASSERT_TRUE(Restart(daemon).ok());
  RawClient back(daemon.socket());
  ASSERT_TRUE(back.BeginRun("gpt", 2, 1).ok());
  EXPECT_EQ(CheckContent(back, "gpt", 100, 2, true), "");
  // Of the same process, as all ranks of this test are, the memory may be handed on.
  auto mine = AttachAll(daemon, "gpt", 2, 2);
  EXPECT_TRUE(mine[0]->attached().response.attached().reused());
}

TEST_F(RestartTest, ASaveThatIsUnderWayIsFinishedFirstAndNoOtherBegins) {
  daemon.Start();
  auto ranks = SaveOnce();
  for (auto& rank : ranks) ASSERT_TRUE(rank->Begin(200).ok());
  RawClient admin(daemon.socket());
  admin.Post(RestartRequest());
  // While it drains no other save begins; until the new program has been tried they may.
  ASSERT_TRUE(launcher->BeginRun("other", 1).ok());
  TestRank other(daemon.socket(), "other", 1, 0, 1);
  Answer begun;
  for (std::int64_t step = 1;; ++step) {
    begun = other.Begin(step);
    if (!begun.ok()) break;
    other.Fill(step);
    ASSERT_TRUE(other.Seal(step).ok());
    ASSERT_EQ(other.Wait(step).response.snapshot_outcome().state(), wire::COMMITTED);
  }
  EXPECT_EQ(begun.code(), Number(Code::kBusy)) << begun;
  for (auto& rank : ranks) {
    rank->Fill(200);
    ASSERT_TRUE(rank->Seal(200).ok());
  }
  const Answer answer = admin.Receive();
  ASSERT_TRUE(answer.ok()) << answer;
  EXPECT_TRUE(admin.Receive().broken);
  RawClient client(daemon.socket());
  EXPECT_EQ(StepsListed(client, "gpt"), (Steps{100, 200}));
  EXPECT_EQ(CheckContent(client, "gpt", 200, 2, true), "");
  EXPECT_EQ(CheckContent(client, "gpt", 200, 2, false), "");
}

TEST_F(RestartTest, TheProgramOfTheInstalledPathIsStarted) {
  StartInstalled();
  auto ranks = SaveOnce();
  // An upgrade: the path leads elsewhere now, and what runs has no name any more.
  const std::string upgraded = daemon.scratch() + "/upgraded";
  std::filesystem::copy_file(BELAYD_PROGRAM, upgraded);
  std::filesystem::remove(installed_);
  std::filesystem::create_symlink(upgraded, installed_);
  const Answer answer = Restart(daemon);
  ASSERT_TRUE(answer.ok()) << answer;
  RawClient client(daemon.socket());
  EXPECT_EQ(CheckContent(client, "gpt", 100, 2, true), "");
  EXPECT_EQ(std::filesystem::read_symlink(base::Str("/proc/", daemon.pid(), "/exe")), upgraded);
}

TEST_F(RestartTest, AMissingProgramIsRefusedAndNothingHappens) {
  StartInstalled();
  auto ranks = SaveOnce();
  Install("");
  const Answer answer = Restart(daemon);
  EXPECT_EQ(answer.code(), Number(Code::kUnavailable));
  EXPECT_NE(answer.response.failure().message().find(installed_), std::string::npos) << answer;
  ExpectGoesOnAsItWas(ranks);
}

TEST_F(RestartTest, AProgramThatCannotTakeOverIsRefusedInItsOwnWords) {
  StartInstalled();
  auto ranks = SaveOnce();
  for (const auto& [script, words] :
       std::vector<std::pair<std::string, std::string>>{{"echo no such flag >&2; exit 64", "no such flag"},
                                                        {"exit 0", "no belayd that can"},
                                                        {"kill -9 $$", "137"}}) {
    Install(script);
    const Answer answer = Restart(daemon);
    EXPECT_EQ(answer.code(), Number(Code::kUnavailable));
    EXPECT_NE(answer.response.failure().message().find(words), std::string::npos) << answer;
  }
  ExpectGoesOnAsItWas(ranks);
}

TEST_F(RestartTest, AProgramThatGoesMissingAtTheLastMomentLeavesTheOldOneServing) {
  StartInstalled({.faults = "restart.before_exec=io@1", .arguments = {}});
  auto ranks = SaveOnce();
  ASSERT_TRUE(Restart(daemon).ok());
  RawClient client(daemon.socket());
  EXPECT_EQ(client.welcome().pid(), daemon.pid());
  EXPECT_EQ(CheckContent(client, "gpt", 100, 2, true), "");
  EXPECT_NE(ReportOf(daemon).restart().failure().find("goes on as it was"), std::string::npos);
  EXPECT_EQ(client.Ask(Hold("gpt", 1, 2, 4242)).ok(), true);
  auto again = AttachAll(daemon, "gpt", 1, 2);
  EXPECT_EQ(Save(again, 200).response.snapshot_outcome().state(), wire::COMMITTED);
  // The next one succeeds.
  ASSERT_TRUE(Restart(daemon).ok());
  RawClient later(daemon.socket());
  EXPECT_EQ(CheckContent(later, "gpt", 200, 2, true), "");
  EXPECT_EQ(ReportOf(daemon).restart().failure(), "");
  later.Close();
  EXPECT_EQ(daemon.Stop(), 0);
  EXPECT_FALSE(std::filesystem::exists(daemon.socket()));
}

TEST_F(RestartTest, WhatWasHandedOverAndCannotBeTakenUpIsAPlainStartThatSaysSo) {
  daemon.Start({.faults = "restart.after_exec=io", .arguments = {}});
  auto ranks = SaveOnce();
  ASSERT_TRUE(Restart(daemon).ok());
  // Callers that waited in the old socket's queue are sent away; the new one listens a moment later.
  auto client = std::make_unique<RawClient>(daemon.socket());
  while (!client->connected() && daemon.Running()) client = std::make_unique<RawClient>(daemon.socket());
  EXPECT_EQ(CheckContent(*client, "gpt", 100, 2, false), "");
  EXPECT_EQ(client->Open("gpt", 100, true, {}).code(), Number(Code::kNotFound));
  EXPECT_NE(ReportOf(daemon).restart().lost().find("restart.after_exec"), std::string::npos);
  EXPECT_EQ(ReportOf(daemon).staging_bytes(), 0U);
  EXPECT_NE(daemon.LogText().find("not_all_taken_up"), std::string::npos);
}

class RestartCrashTest : public RestartTest, public testing::WithParamInterface<const char*> {};

TEST_P(RestartCrashTest, KillingItInTheMiddleIsAKillLikeAnyOther) {
  daemon.Start({.faults = GetParam(), .arguments = {}});
  auto ranks = SaveOnce();
  RawClient admin(daemon.socket());
  admin.Post(RestartRequest());
  ASSERT_EQ(daemon.WaitExit(), 128 + SIGKILL);
  daemon.Start();
  RawClient client(daemon.socket());
  EXPECT_EQ(StepsListed(client, "gpt"), (Steps{100}));
  EXPECT_EQ(CheckContent(client, "gpt", 100, 2, false), "");
  EXPECT_TRUE(LeftOver(daemon, "gpt", {100}).empty());
  EXPECT_EQ(client.BeginRun("gpt", 2, 1).response.run_grant().generation(), 2U);
  auto again = AttachAll(daemon, "gpt", 2, 2);
  EXPECT_EQ(Save(again, 200).response.snapshot_outcome().state(), wire::COMMITTED);
}

INSTANTIATE_TEST_SUITE_P(Points, RestartCrashTest,
                         testing::Values("restart.before_check=kill", "restart.before_exec=kill",
                                         "restart.after_exec=kill"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
                           return name;
                         });

TEST_F(RestartTest, APrivateOneWaitsForItsClientsToComeBack) {
  daemon.Start({.faults = {}, .arguments = {"--private", "--linger", "0"}});
  { auto gone = SaveOnce(); }
  ASSERT_TRUE(Restart(daemon).ok());
  // Somebody who looks and leaves at once is not what it waits for.
  { EXPECT_TRUE(RawClient(daemon.socket()).List().ok()); }
  daemon.Signal(SIGTERM);
  RawClient back(daemon.socket());
  ASSERT_TRUE(back.Ask(Hold("gpt", 1, 2, 4242)).ok()) << "neither left nor is stopping";
  EXPECT_EQ(CheckContent(back, "gpt", 100, 2, true), "");
}

TEST_F(RestartTest, APrivateOneThatServedNobodyElseLeavesAsBefore) {
  daemon.Start({.faults = {}, .arguments = {"--private", "--linger", "0"}});
  ASSERT_TRUE(Restart(daemon).ok());
  { EXPECT_TRUE(RawClient(daemon.socket()).List().ok()); }
  EXPECT_EQ(daemon.WaitExit(), 0);
}

TEST_F(RestartTest, DescriptorsThatAreNotWhatTheyAreSaidToBeAreNotBelieved) {
  // A daemon that is handed a record from elsewhere, with numbers that mean something else here.
  Handover lies;
  lies.version = "0";
  lies.lock = 0;
  lies.listener = 1;
  const auto refuses = [&](const base::Result<base::UniqueFd>& record, const std::string& why) {
    ASSERT_TRUE(record);
    daemon.Start({.arguments = {"--take-over", base::Str(record->get())}, .inherited = {record->get()}});
    EXPECT_NE(daemon.LogText().find(why), std::string::npos) << daemon.LogText();
    EXPECT_TRUE(RawClient(daemon.socket()).List().ok()) << "it starts like any other";
    EXPECT_EQ(daemon.Stop(), 0);
    std::filesystem::remove_all(daemon.data_dir());
  };
  refuses(base::FreezeInMemory("record", EncodeHandover(lies)), "no descriptor 0 was inherited");
  lies.lock = 900;
  refuses(base::FreezeInMemory("record", EncodeHandover(lies)), "no descriptor 900 was inherited");
  std::string newer = EncodeHandover(lies);
  newer[8] = static_cast<char>(kHandoverVersion + 1);
  refuses(base::FreezeInMemory("record", newer), base::Str("the hand-over record has version ", kHandoverVersion + 1));
  refuses(base::CreateSharedMemory({.name = "record", .size_bytes = 4096}), "not a memory that nobody can change");
  // Inherited, sealed and open, but no lock.
  auto another = base::CreateSharedMemory({.name = "another", .size_bytes = 4096});
  ASSERT_TRUE(another);
  lies.lock = another->get();
  auto record = base::FreezeInMemory("record", EncodeHandover(lies));
  ASSERT_TRUE(record);
  daemon.Start({.arguments = {"--take-over", base::Str(record->get())}, .inherited = {record->get(), another->get()}});
  EXPECT_NE(daemon.LogText().find("not_all_taken_up"), std::string::npos);
  for (const auto& open : std::filesystem::directory_iterator(base::Str("/proc/", daemon.pid(), "/fd"))) {
    std::error_code gone;
    const std::string name = std::filesystem::read_symlink(open.path(), gone);
    EXPECT_EQ(name.find("memfd:"), std::string::npos) << "what is not believed is closed: " << name;
  }
}

}  // namespace
}  // namespace belay::checkpoint
