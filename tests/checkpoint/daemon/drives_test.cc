// belayd with several data folders, from outside: where shards go, what happens when a drive is not there, and that
// nothing is left over.
#include <filesystem>
#include <fstream>
#include <functional>

#include "checkpoint/format/manifest.h"
#include "runtime/base/clock.h"
#include "runtime/base/error_codes.h"
#include "tests/checkpoint/daemon/daemon_harness.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using Steps = std::vector<std::int64_t>;
namespace fs = std::filesystem;

std::uint32_t Number(Code code) { return static_cast<std::uint32_t>(code); }

class DrivesTest : public testing::Test {
 protected:
  std::string Drive(int number) const { return daemon_.scratch() + "/nvme" + std::to_string(number) + "/belay"; }
  DaemonOptions With(int drives, std::vector<std::string> more = {}) const {
    for (int i = 1; i <= drives; ++i) more.insert(more.end(), {"--also-data-dir", Drive(i)});
    return {.faults = "", .arguments = std::move(more)};
  }
  static std::string Below(std::int64_t step, std::uint64_t generation = 1) {
    return "/default/gpt/" + CheckpointDirectoryName(base::Step(step), base::Generation(generation));
  }
  std::string Home(std::int64_t step) const { return daemon_.data_dir() + Below(step); }
  // As if its drive were not mounted: the mount point is there, and empty.
  void Unmount(int number) {
    const fs::path mount = daemon_.scratch() + "/nvme" + std::to_string(number);
    fs::rename(mount, mount.string() + ".away");
    fs::create_directory(mount);
  }
  void Mount(int number) {
    const fs::path mount = daemon_.scratch() + "/nvme" + std::to_string(number);
    EXPECT_TRUE(fs::is_empty(mount)) << "something was written below the mount point";
    fs::remove(mount);
    fs::rename(mount.string() + ".away", mount);
  }
  // Files in a drive that no checkpoint in home links to.
  std::vector<std::string> Strays(int number) const {
    std::vector<std::string> strays;
    if (!fs::exists(Drive(number) + "/default")) return strays;
    for (const auto& entry : fs::recursive_directory_iterator(Drive(number) + "/default")) {
      if (entry.is_directory() && entry.path().filename().string().starts_with("step-") && fs::is_empty(entry.path())) {
        strays.push_back(entry.path());
      }
      if (entry.is_directory()) continue;
      const fs::path link = daemon_.data_dir() / fs::relative(entry.path(), Drive(number));
      if (!fs::is_symlink(link) || fs::read_symlink(link) != entry.path()) strays.push_back(entry.path());
    }
    return strays;
  }
  bool Until(RawClient& client, const std::function<bool()>& is_so) {
    const auto deadline = base::SystemClock().Now() + std::chrono::seconds(30);
    while (base::SystemClock().Now() < deadline) {
      if (is_so()) return true;
      if (client.List().broken) return false;
    }
    return false;
  }

  DaemonUnderTest daemon_;
};

TEST_F(DrivesTest, ShardsLieOnAllDrivesAndLeaveThemAllAgain) {
  daemon_.Start(With(2));
  {
    RawClient launcher(daemon_.socket());
    ASSERT_TRUE(launcher.BeginRun("gpt", 4).ok());
    auto ranks = AttachAll(daemon_, "gpt", 1, 4, 1);
    ASSERT_EQ(Save(ranks, 100).response.snapshot_outcome().state(), wire::COMMITTED);
    for (int rank = 0; rank < 4; ++rank) {
      const fs::path in_home = Home(100) + "/" + ranks[static_cast<std::size_t>(rank)]->shard_name();
      ASSERT_TRUE(fs::is_regular_file(in_home)) << "readers see one folder";
      EXPECT_EQ(fs::is_symlink(in_home), rank % 3 != 0);
      if (rank % 3 == 0) continue;
      EXPECT_EQ(fs::read_symlink(in_home), Drive(rank % 3) + Below(100) + "/" + in_home.filename().string());
      EXPECT_TRUE(fs::is_regular_file(fs::symlink_status(fs::read_symlink(in_home))));
    }
    EXPECT_EQ(CheckContent(launcher, "gpt", 100, 4, false), "");

    ASSERT_EQ(Save(ranks, 200).response.snapshot_outcome().state(), wire::COMMITTED);  // one is kept
    ASSERT_TRUE(Until(launcher, [&] { return !fs::exists(Home(100)); })) << "home's folder is the last to go";
    EXPECT_EQ(StepsListed(launcher, "gpt"), Steps{200});
    for (int drive : {1, 2}) {
      EXPECT_FALSE(fs::exists(Drive(drive) + Below(100)));
      EXPECT_TRUE(Strays(drive).empty()) << Strays(drive).front();
    }
  }
  ASSERT_EQ(daemon_.Stop(), 0);

  daemon_.Start();  // nobody names them, and it knows them
  RawClient client(daemon_.socket());
  EXPECT_EQ(CheckContent(client, "gpt", 200, 4, false), "");
  wire::Request status;
  status.mutable_daemon_status();
  const Answer answer = client.Ask(status);
  const wire::DaemonReport& report = answer.response.daemon_report();
  ASSERT_EQ(report.also_size(), 2);
  EXPECT_EQ(report.also(0).path(), Drive(1));
  EXPECT_GT(report.also(0).disk_total_bytes(), 0U);
  wire::Request reindex;
  reindex.mutable_reindex();
  const Answer indexed = client.Ask(reindex);
  EXPECT_EQ(indexed.response.reindex_report().checkpoints(), 1U);
  EXPECT_EQ(indexed.response.reindex_report().problems_size(), 0);
}

TEST_F(DrivesTest, AStartWithoutADriveIsRefusedAndTakesNothing) {
  daemon_.Start(With(1));
  {
    RawClient launcher(daemon_.socket());
    launcher.BeginRun("gpt", 2);
    auto ranks = AttachAll(daemon_, "gpt", 1, 2);
    ASSERT_TRUE(Save(ranks, 100).ok());
  }
  ASSERT_EQ(daemon_.Stop(), 0);
  Unmount(1);
  EXPECT_EQ(daemon_.RunToEnd(With(1)), 69);
  EXPECT_EQ(daemon_.RunToEnd(), 69) << "not naming it does not make it any less missing";
  EXPECT_NE(daemon_.LogText().find("is its drive mounted?"), std::string::npos);
  Mount(1);
  daemon_.Start();
  RawClient client(daemon_.socket());
  EXPECT_EQ(CheckContent(client, "gpt", 100, 2, false), "");
}

TEST_F(DrivesTest, ADriveThatGoesWhileServingFailsSavesAndHarmsNothing) {
  daemon_.Start(With(1, {"--scrub-delay", "0", "--scrub-every", "0", "--scrub-rate", "1000000000000"}));
  RawClient launcher(daemon_.socket());
  launcher.BeginRun("gpt", 2);
  auto ranks = AttachAll(daemon_, "gpt", 1, 2, 1);
  ASSERT_EQ(Save(ranks, 100).response.snapshot_outcome().state(), wire::COMMITTED);
  const std::string shard = ranks[1]->shard_name();
  Unmount(1);

  const Answer refused = ranks[0]->Begin(200);
  EXPECT_EQ(refused.code(), Number(Code::kFolderMissing)) << refused;
  EXPECT_NE(refused.response.failure().message().find("is its drive mounted?"), std::string::npos);
  ranks[1]->Begin(200);
  {
    RawClient reader(daemon_.socket());  // while it restores, the scrubber waits
    const Answer opened = reader.Open("gpt", 100, false, {shard});
    EXPECT_EQ(opened.code(), Number(Code::kFolderMissing)) << opened;
  }
  wire::Request remove;
  remove.mutable_remove_checkpoint()->mutable_checkpoint()->mutable_key()->set_project("default");
  remove.mutable_remove_checkpoint()->mutable_checkpoint()->mutable_key()->set_job("gpt");
  remove.mutable_remove_checkpoint()->mutable_checkpoint()->set_step(100);
  remove.mutable_remove_checkpoint()->set_force(true);
  EXPECT_EQ(launcher.Ask(remove).code(), Number(Code::kFolderMissing));
  EXPECT_TRUE(fs::exists(Home(100) + "/manifest.json"));
  EXPECT_TRUE(Until(launcher, [&] { return daemon_.LogText().find("scrub_could_not_read") != std::string::npos; }));
  EXPECT_EQ(daemon_.LogText().find("scrub_found_damage"), std::string::npos);
  EXPECT_EQ(launcher.List().response.checkpoint_list().checkpoints(0).quarantine(), "");

  Mount(1);
  EXPECT_EQ(CheckContent(launcher, "gpt", 100, 2, false), "");
  EXPECT_EQ(Save(ranks, 300).response.snapshot_outcome().state(), wire::COMMITTED);
  EXPECT_EQ(CheckContent(launcher, "gpt", 300, 2, false), "");
  ASSERT_TRUE(Until(launcher, [&] { return !fs::exists(Home(100)); }));
  EXPECT_EQ(StepsListed(launcher, "gpt"), Steps{300});
  EXPECT_TRUE(Strays(1).empty()) << Strays(1).front();
}

TEST_F(DrivesTest, DamageOnAnotherDriveIsRepairedThere) {
  daemon_.Start(With(1, {"--scrub-delay", "0", "--scrub-every", "0", "--scrub-rate", "1000000000000"}));
  RawClient launcher(daemon_.socket());
  launcher.BeginRun("gpt", 2);
  auto ranks = AttachAll(daemon_, "gpt", 1, 2, 2);
  ASSERT_TRUE(Save(ranks, 100).ok());
  const fs::path place = Drive(1) + Below(100) + "/" + ranks[1]->shard_name();
  ASSERT_TRUE(fs::exists(place));
  fs::remove(place);
  ASSERT_TRUE(Until(launcher, [&] { return fs::exists(place); }));
  EXPECT_TRUE(fs::is_symlink(Home(100) + "/" + ranks[1]->shard_name()));
  EXPECT_EQ(CheckContent(launcher, "gpt", 100, 2, false), "");
}

TEST_F(DrivesTest, ADroppedDriveIsEmptiedAsItsCheckpointsGo) {
  daemon_.Start(With(1));
  {
    RawClient launcher(daemon_.socket());
    launcher.BeginRun("gpt", 2);
    auto ranks = AttachAll(daemon_, "gpt", 1, 2, 1);
    ASSERT_TRUE(Save(ranks, 100).ok());
  }
  ASSERT_EQ(daemon_.Stop(), 0);
  daemon_.Start({.faults = "", .arguments = {"--drop-data-dir", Drive(1)}});
  RawClient launcher(daemon_.socket());
  EXPECT_EQ(CheckContent(launcher, "gpt", 100, 2, false), "");
  launcher.BeginRun("gpt", 2);
  auto ranks = AttachAll(daemon_, "gpt", 2, 2, 1);
  ASSERT_EQ(Save(ranks, 200).response.snapshot_outcome().state(), wire::COMMITTED);
  EXPECT_FALSE(fs::is_symlink(daemon_.data_dir() + Below(200, 2) + "/" + ranks[1]->shard_name()));
  ASSERT_TRUE(Until(launcher, [&] { return !fs::exists(Home(100)); }));
  EXPECT_TRUE(fs::is_empty(Drive(1) + "/default/gpt"));
}

TEST_F(DrivesTest, ALostDriveIsGivenUpWithWhatItHeld) {
  daemon_.Start();
  {
    RawClient launcher(daemon_.socket());
    launcher.BeginRun("gpt", 2);
    auto ranks = AttachAll(daemon_, "gpt", 1, 2, 2);
    ASSERT_TRUE(Save(ranks, 100).ok());
  }
  ASSERT_EQ(daemon_.Stop(), 0);
  daemon_.Start(With(1));
  std::string shard;
  {
    RawClient launcher(daemon_.socket());
    launcher.BeginRun("gpt", 2);
    auto ranks = AttachAll(daemon_, "gpt", 2, 2, 2);
    ASSERT_TRUE(Save(ranks, 200).ok());
    shard = ranks[1]->shard_name();
  }
  ASSERT_EQ(daemon_.Stop(), 0);
  Unmount(1);
  daemon_.Start({.faults = "", .arguments = {"--drop-data-dir", Drive(1), "--scrub-delay", "0", "--scrub-every", "0"}});
  RawClient client(daemon_.socket());
  EXPECT_EQ(client.Open("gpt", 200, false, {shard}).code(), Number(Code::kNotFound)) << "a resume goes on to the next";
  EXPECT_EQ(CheckContent(client, "gpt", 100, 2, false), "");
  client.Close();
  RawClient watcher(daemon_.socket());
  EXPECT_TRUE(Until(watcher, [&] { return fs::exists(daemon_.data_dir() + Below(200, 2) + "/.quarantined"); }));
  ASSERT_TRUE(watcher.BeginRun("gpt", 2).ok());
  auto ranks = AttachAll(daemon_, "gpt", 3, 2, 2);
  EXPECT_EQ(Save(ranks, 300).response.snapshot_outcome().state(), wire::COMMITTED);
}

TEST_F(DrivesTest, ADriveIsNotServedAsIfItWereAHome) {
  daemon_.Start(With(1));
  {
    RawClient launcher(daemon_.socket());
    launcher.BeginRun("gpt", 2);
    auto ranks = AttachAll(daemon_, "gpt", 1, 2, 1);
    ASSERT_TRUE(Save(ranks, 100).ok());
  }
  ASSERT_EQ(daemon_.Stop(), 0);
  DaemonUnderTest mistaken(Drive(1));
  EXPECT_EQ(mistaken.RunToEnd(), 64);
  DaemonUnderTest second;
  EXPECT_EQ(second.RunToEnd({.faults = "", .arguments = {"--also-data-dir", Drive(1)}}), 64);
  daemon_.Start();
  RawClient client(daemon_.socket());
  EXPECT_EQ(CheckContent(client, "gpt", 100, 2, false), "") << "nothing was taken for a leftover";
}

}  // namespace
}  // namespace belay::checkpoint
