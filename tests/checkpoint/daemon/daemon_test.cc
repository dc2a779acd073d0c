// belayd from outside: saves, restarts, restores, housekeeping.
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "checkpoint/format/manifest.h"
#include "runtime/base/error_codes.h"
#include "tests/checkpoint/daemon/daemon_harness.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using Steps = std::vector<std::int64_t>;

std::uint32_t Number(Code code) { return static_cast<std::uint32_t>(code); }

TEST(DaemonTest, TwoRanksSaveAndBothMemoryAndDiskGiveItBack) {
  DaemonUnderTest daemon;
  daemon.Start();
  RawClient launcher(daemon.socket());
  ASSERT_EQ(launcher.welcome().data_dir(), daemon.data_dir());
  const Answer grant = launcher.BeginRun("gpt", 2);
  ASSERT_TRUE(grant.ok()) << grant;
  EXPECT_EQ(grant.response.run_grant().generation(), 1U);
  EXPECT_EQ(grant.response.run_grant().newest_step(), -1);
  auto ranks = AttachAll(daemon, "gpt", 1, 2);
  ASSERT_TRUE(ranks[1]->attached().ok()) << ranks[1]->attached();
  const Answer saved = Save(ranks, 100);
  ASSERT_TRUE(saved.ok()) << saved;
  EXPECT_EQ(saved.response.snapshot_outcome().state(), wire::COMMITTED);
  EXPECT_GT(saved.response.snapshot_outcome().bytes(), 1U << 20);
  EXPECT_EQ(CheckContent(launcher, "gpt", 100, 2, true), "");
  EXPECT_EQ(CheckContent(launcher, "gpt", 100, 2, false), "");
  const Answer points = launcher.Points("gpt");
  ASSERT_EQ(points.response.restore_point_list().points_size(), 1);
  EXPECT_TRUE(points.response.restore_point_list().points(0).in_memory());

  const Answer listed = launcher.List();
  ASSERT_EQ(listed.response.checkpoint_list().checkpoints_size(), 1);
  const auto& info = listed.response.checkpoint_list().checkpoints(0);
  EXPECT_EQ(info.directory(), daemon.data_dir() + "/default/gpt/step-000000100.gen-1");
  EXPECT_EQ(info.metrics().at("loss"), 0.01);
  EXPECT_EQ(info.reason(), "interval");
  EXPECT_EQ(std::filesystem::file_size(info.directory() + "/" + ranks[0]->shard_name()), ranks[0]->file_bytes());
  EXPECT_TRUE(LeftOver(daemon, "gpt", {100}).empty());
  EXPECT_EQ(daemon.Stop(), 0);
  EXPECT_FALSE(std::filesystem::exists(daemon.socket()));
}

TEST(DaemonTest, ARestartedDaemonKnowsAllAndGoesOnWithGenerations) {
  DaemonUnderTest daemon;
  daemon.Start();
  {
    RawClient launcher(daemon.socket());
    launcher.BeginRun("gpt", 2);
    auto ranks = AttachAll(daemon, "gpt", 1, 2);
    ASSERT_TRUE(Save(ranks, 100).ok());
  }
  daemon.Kill();
  daemon.Start();
  RawClient launcher(daemon.socket());
  EXPECT_EQ(StepsListed(launcher, "gpt"), (Steps{100}));
  EXPECT_EQ(CheckContent(launcher, "gpt", 100, 2, false), "");
  EXPECT_EQ(launcher.Open("gpt", 100, true, {}).code(), Number(Code::kNotFound)) << "memory died with the daemon";
  // The trainers of generation 1 may attach again, until a new run begins.
  auto ranks = AttachAll(daemon, "gpt", 1, 2);
  EXPECT_TRUE(Save(ranks, 200).ok());
  const Answer grant = launcher.BeginRun("gpt", 2);
  EXPECT_EQ(grant.response.run_grant().generation(), 2U);
  EXPECT_EQ(grant.response.run_grant().newest_step(), 200);
  EXPECT_EQ(ranks[0]->Begin(300).code(), Number(Code::kStaleGeneration));
}

TEST(DaemonTest, TheIndexIsRebuiltFromTheFilesWhenItIsLostOrDamaged) {
  DaemonUnderTest daemon;
  daemon.Start();
  {
    RawClient launcher(daemon.socket());
    launcher.BeginRun("gpt", 1);
    auto ranks = AttachAll(daemon, "gpt", 1, 1);
    ASSERT_TRUE(Save(ranks, 100).ok());
  }
  const std::string index = daemon.data_dir() + "/.belayd/index";
  for (const bool damaged : {false, true}) {
    ASSERT_EQ(daemon.Stop(), 0);
    if (damaged)
      std::ofstream(index + "/CURRENT") << "nonsense";
    else
      std::filesystem::remove_all(index);
    daemon.Start();
    RawClient client(daemon.socket());
    EXPECT_EQ(StepsListed(client, "gpt"), (Steps{100}));
    EXPECT_EQ(client.BeginRun("gpt", 1).response.run_grant().generation(), damaged ? 3U : 2U);
  }
  wire::Request reindex;
  reindex.mutable_reindex();
  const Answer report = RawClient(daemon.socket()).Ask(reindex);
  ASSERT_TRUE(report.ok()) << report;
  EXPECT_EQ(report.response.reindex_report().checkpoints(), 1U);
  EXPECT_EQ(report.response.reindex_report().problems_size(), 0);
}

TEST(DaemonTest, RetentionKeepsTheNewestAndDeletesWhole) {
  DaemonUnderTest daemon;
  daemon.Start();
  RawClient launcher(daemon.socket());
  launcher.BeginRun("gpt", 2);
  auto ranks = AttachAll(daemon, "gpt", 1, 2, 2);
  for (std::int64_t step = 100; step <= 400; step += 100) ASSERT_TRUE(Save(ranks, step).ok());
  EXPECT_EQ(StepsListed(launcher, "gpt"), (Steps{300, 400}));
  ASSERT_EQ(daemon.Stop(), 0);  // deletions are drained
  EXPECT_TRUE(LeftOver(daemon, "gpt", {300, 400}).empty());
}

TEST(DaemonTest, PinsSurviveRetentionRestartAndReindex) {
  DaemonUnderTest daemon;
  daemon.Start();
  {
    RawClient launcher(daemon.socket());
    launcher.BeginRun("gpt", 1);
    auto ranks = AttachAll(daemon, "gpt", 1, 1, 1);
    ASSERT_TRUE(Save(ranks, 100).ok());
    wire::Request pin;
    wire::CheckpointKey& key = *pin.mutable_pin_checkpoint()->mutable_checkpoint();
    key.mutable_key()->set_project("default");
    key.mutable_key()->set_job("gpt");
    key.set_step(100);
    pin.mutable_pin_checkpoint()->set_pinned(true);
    ASSERT_TRUE(launcher.Ask(pin).ok());
    ASSERT_TRUE(Save(ranks, 200).ok());
    ASSERT_TRUE(Save(ranks, 300).ok());
    EXPECT_EQ(StepsListed(launcher, "gpt"), (Steps{100, 300}));
  }
  daemon.Stop();
  std::filesystem::remove_all(daemon.data_dir() + "/.belayd/index");
  daemon.Start();
  RawClient client(daemon.socket());
  const Answer listed = client.List();
  ASSERT_EQ(listed.response.checkpoint_list().checkpoints_size(), 2);
  EXPECT_TRUE(listed.response.checkpoint_list().checkpoints(0).pinned());
  EXPECT_FALSE(listed.response.checkpoint_list().checkpoints(1).pinned());
  wire::Request remove;
  *remove.mutable_remove_checkpoint()->mutable_checkpoint() =
      listed.response.checkpoint_list().checkpoints(0).checkpoint();
  EXPECT_EQ(client.Ask(remove).code(), Number(Code::kInvalidArgument));
  remove.mutable_remove_checkpoint()->set_force(true);
  EXPECT_TRUE(client.Ask(remove).ok());
  EXPECT_EQ(StepsListed(client, "gpt"), (Steps{300}));
}

TEST(DaemonTest, ARankThatDiesWhileFillingCostsOnlyThatSnapshot) {
  DaemonUnderTest daemon;
  daemon.Start();
  RawClient launcher(daemon.socket());
  launcher.BeginRun("gpt", 2);
  auto ranks = AttachAll(daemon, "gpt", 1, 2);
  ASSERT_TRUE(Save(ranks, 100).ok());
  ASSERT_TRUE(ranks[0]->Begin(200).ok());
  ASSERT_TRUE(ranks[1]->Begin(200).ok());
  ranks[0]->Fill(200);
  ASSERT_TRUE(ranks[0]->Seal(200).ok());
  ranks[1]->client().Close();
  const Answer outcome = ranks[0]->Wait(200);
  EXPECT_EQ(outcome.response.snapshot_outcome().state(), wire::FAILED);
  EXPECT_NE(outcome.response.snapshot_outcome().failure().message().find("rank 1"), std::string::npos);
  EXPECT_TRUE(LeftOver(daemon, "gpt", {100}).empty());
  const Answer again = launcher.BeginRun("gpt", 2, 1);
  EXPECT_EQ(again.response.run_grant().newest_step(), 100);
  auto restarted = AttachAll(daemon, "gpt", 2, 2);
  EXPECT_TRUE(restarted[0]->attached().response.attached().reused());
  EXPECT_TRUE(Save(restarted, 200).ok());
}

TEST(DaemonTest, SealedSnapshotsAreDrainedThoughEverybodyDied) {
  DaemonUnderTest daemon;
  daemon.Start({.faults = {}, .arguments = {"--private", "--linger", "0"}});
  {
    RawClient launcher(daemon.socket());
    launcher.BeginRun("gpt", 2);
    auto ranks = AttachAll(daemon, "gpt", 1, 2);
    for (auto& rank : ranks) ASSERT_TRUE(rank->Begin(100).ok());
    for (auto& rank : ranks) {
      rank->Fill(100);
      ASSERT_TRUE(rank->Seal(100).ok());
    }
  }  // all connections close
  EXPECT_EQ(daemon.WaitExit(), 0) << "a private daemon leaves by itself";
  daemon.Start();
  RawClient client(daemon.socket());
  EXPECT_EQ(CheckContent(client, "gpt", 100, 2, false), "");
}

TEST(DaemonTest, TermDrainsAndThenLeaves) {
  DaemonUnderTest daemon;
  daemon.Start();
  RawClient launcher(daemon.socket());
  launcher.BeginRun("gpt", 1);
  auto ranks = AttachAll(daemon, "gpt", 1, 1);
  ASSERT_TRUE(ranks[0]->Begin(100).ok());
  ranks[0]->Fill(100);
  ASSERT_TRUE(ranks[0]->Seal(100).ok());
  EXPECT_EQ(daemon.Stop(), 0);
  daemon.Start();
  RawClient client(daemon.socket());
  EXPECT_EQ(StepsListed(client, "gpt"), (Steps{100}));
}

TEST(DaemonTest, StoppingByRequestIsRefusedWhileARunLives) {
  DaemonUnderTest daemon;
  daemon.Start();
  RawClient launcher(daemon.socket());
  launcher.BeginRun("gpt", 1);
  wire::Request stop;
  stop.mutable_daemon_stop();
  EXPECT_EQ(launcher.Ask(stop).code(), Number(Code::kBusy));
  launcher.Close();
  RawClient admin(daemon.socket());
  // The launcher's end may arrive a moment later than this question.
  Answer stopped = admin.Ask(stop);
  while (stopped.code() == Number(Code::kBusy)) stopped = admin.Ask(stop);
  EXPECT_TRUE(stopped.ok()) << stopped;
  EXPECT_EQ(daemon.WaitExit(), 0);
}

TEST(DaemonTest, StoppingByForceDoesNotWaitForADiskThatHangs) {
  DaemonUnderTest daemon;
  daemon.Start();
  RawClient launcher(daemon.socket());
  const auto generation = launcher.BeginRun("gpt", 1).response.run_grant().generation();
  auto ranks = AttachAll(daemon, "gpt", generation, 1);
  ASSERT_TRUE(ranks[0]->Begin(100).ok());
  ranks[0]->Fill(100);
  // Nobody reads from it, so whoever opens it to write waits.
  const std::string folder =
      daemon.data_dir() + "/default/gpt/" + CheckpointDirectoryName(base::Step(100), base::Generation(generation));
  std::filesystem::create_directory(folder);
  ASSERT_EQ(::mkfifo((folder + "/" + ranks[0]->shard_name() + ".tmp").c_str(), 0600), 0);
  ASSERT_TRUE(ranks[0]->Seal(100).ok());
  wire::Request stop;
  stop.mutable_daemon_stop()->set_force(true);
  EXPECT_TRUE(RawClient(daemon.socket()).Ask(stop).ok());
  EXPECT_EQ(daemon.WaitExit(), 0);
  EXPECT_FALSE(std::filesystem::exists(daemon.socket()));
  daemon.Start();
  EXPECT_EQ(StepsListed(*std::make_unique<RawClient>(daemon.socket()), "gpt"), Steps{});
}

TEST(DaemonTest, OneDaemonADataDirectory) {
  DaemonUnderTest daemon;
  daemon.Start();
  DaemonUnderTest second(daemon.data_dir());
  EXPECT_EQ(second.RunToEnd(), static_cast<int>(base::ExitStatus::kCannotCreate));
  EXPECT_TRUE(RawClient(daemon.socket()).connected()) << "the first is unharmed";
}

TEST(DaemonTest, LiesInTheSealedHeaderFailTheSnapshot) {
  DaemonUnderTest daemon;
  daemon.Start();
  RawClient launcher(daemon.socket());
  launcher.BeginRun("gpt", 1);
  auto ranks = AttachAll(daemon, "gpt", 1, 1);
  ASSERT_TRUE(ranks[0]->Begin(100).ok());
  ranks[0]->Fill(99);  // the header says step 99
  ASSERT_TRUE(ranks[0]->Seal(100).ok());
  const Answer outcome = ranks[0]->Wait(100);
  EXPECT_EQ(outcome.response.snapshot_outcome().state(), wire::FAILED);
  EXPECT_EQ(outcome.response.snapshot_outcome().failure().code(), Number(Code::kCorrupt));
  EXPECT_TRUE(Save(ranks, 200).ok());
}

TEST(DaemonTest, StatusTellsWhatIsThere) {
  DaemonUnderTest daemon;
  daemon.Start();
  RawClient launcher(daemon.socket());
  launcher.BeginRun("gpt", 2);
  auto ranks = AttachAll(daemon, "gpt", 1, 2);
  wire::Request status;
  status.mutable_daemon_status();
  const wire::DaemonReport report = launcher.Ask(status).response.daemon_report();
  EXPECT_EQ(report.data_dir(), daemon.data_dir());
  EXPECT_EQ(report.socket(), daemon.socket());
  EXPECT_EQ(report.connections(), 3U);
  EXPECT_GT(report.staging_bytes(), 2U << 20);
  EXPECT_GT(report.disk_total_bytes(), report.disk_available_bytes());
  EXPECT_FALSE(report.writer().empty());
  ASSERT_EQ(report.runs_size(), 1);
  EXPECT_EQ(report.runs(0).attached(), 2);
}

TEST(DaemonTest, ANumaNodeThatIsNotThereCostsALineInTheLog) {
  DaemonUnderTest daemon;
  daemon.Start();
  RawClient launcher(daemon.socket());
  launcher.BeginRun("gpt", 2);
  for (const int rank : {0, 1}) {
    RawClient trainer(daemon.socket());
    wire::Request request;
    wire::Attach& attach = *request.mutable_attach();
    attach.mutable_key()->set_project("default");
    attach.mutable_key()->set_job("gpt");
    attach.set_generation(1);
    attach.set_rank(rank);
    attach.set_world_size(2);
    attach.set_staging_bytes(1 << 20);
    attach.set_numa_node(rank == 0 ? 977 : -1);
    const Answer attached = trainer.Ask(std::move(request));
    ASSERT_TRUE(attached.ok()) << attached;
    ASSERT_EQ(attached.descriptors.size(), 1U);
    EXPECT_TRUE(base::MapSharedMemory(attached.descriptors[0].get(), 1 << 20, base::MapAccess::kReadWrite));
  }
  EXPECT_NE(daemon.LogText().find("staging_not_bound"), std::string::npos);
}

TEST(DaemonTest, TheMemoryBudgetIsSaidInNumbers) {
  DaemonUnderTest daemon;
  daemon.Start({.faults = {}, .arguments = {"--memory-budget", "1048576"}});
  RawClient launcher(daemon.socket());
  launcher.BeginRun("gpt", 1);
  const auto ranks = AttachAll(daemon, "gpt", 1, 1);
  EXPECT_EQ(ranks[0]->attached().code(), Number(Code::kNoSpace));
  EXPECT_NE(ranks[0]->attached().response.failure().message().find("1.0 MiB"), std::string::npos);
}

TEST(DaemonTest, BadFlagsAreUsageErrors) {
  DaemonUnderTest daemon;
  EXPECT_EQ(daemon.RunToEnd({.faults = {}, .arguments = {"--no-such-flag"}}), 64);
  EXPECT_EQ(daemon.RunToEnd({.faults = {}, .arguments = {"--linger", "-1"}}), 64);
  EXPECT_EQ(daemon.RunToEnd({.faults = {}, .arguments = {"surplus"}}), 64);
  EXPECT_EQ(daemon.RunToEnd({.faults = {}, .arguments = {"--help"}}), 0);
}

}  // namespace
}  // namespace belay::checkpoint
