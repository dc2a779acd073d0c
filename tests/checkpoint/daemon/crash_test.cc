// kill -9 of belayd at every named step of a save, a deletion and a run's beginning: after a restart the old or the new
// checkpoint is there, whole, and nothing else.
#include <csignal>
#include <filesystem>

#include "runtime/base/fault_points.h"
#include "tests/checkpoint/daemon/daemon_harness.h"

namespace belay::checkpoint {
namespace {

using Steps = std::vector<std::int64_t>;

struct Crash {
  const char* fault;
  // What a restart may find. The manifest's rename is the commit: a killed process (the power stays) loses no finished
  // call.
  bool old_may_be_there, new_must_be_there, new_may_be_there;
};

void PrintTo(const Crash& crash, std::ostream* out) { *out << crash.fault; }

class CrashTest : public testing::TestWithParam<Crash> {};

// Files on the other drive that home's checkpoints do not link to.
std::vector<std::string> LeftOnDrive(const DaemonUnderTest& daemon, const std::string& drive) {
  std::vector<std::string> left;
  if (!std::filesystem::exists(drive + "/default")) return left;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(drive + "/default")) {
    const std::filesystem::path in_home = daemon.data_dir() / std::filesystem::relative(entry.path(), drive);
    const bool wanted = entry.is_directory() ? std::filesystem::is_directory(in_home)
                                             : std::filesystem::is_symlink(in_home) &&
                                                   std::filesystem::read_symlink(in_home) == entry.path();
    if (!wanted) left.push_back(entry.path());
  }
  return left;
}

void RestartFindsOldOrNewAndNothingElse(const Crash& crash, bool two_drives) {
  DaemonUnderTest daemon;
  const std::string drive = daemon.scratch() + "/nvme1";
  daemon.Start(
      {.faults = "",
       .arguments = two_drives ? std::vector<std::string>{"--also-data-dir", drive} : std::vector<std::string>{}});
  {
    RawClient launcher(daemon.socket());
    ASSERT_TRUE(launcher.BeginRun("gpt", 2).ok());
    auto ranks = AttachAll(daemon, "gpt", 1, 2, 1);
    ASSERT_EQ(Save(ranks, 100).response.snapshot_outcome().state(), wire::COMMITTED);
  }
  ASSERT_EQ(daemon.Stop(), 0);

  daemon.Start({.faults = std::string(crash.fault), .arguments = {}});
  {
    RawClient launcher(daemon.socket());
    const Answer grant = launcher.BeginRun("gpt", 2);
    if (grant.ok()) {
      EXPECT_EQ(grant.response.run_grant().generation(), 2U);
      auto ranks = AttachAll(daemon, "gpt", 2, 2, 1);  // keep_last 1: the commit deletes step 100
      if (ranks[0]->attached().ok() && ranks[1]->attached().ok()) {
        Save(ranks, 200);
        launcher.List();
      }
    }
    ASSERT_EQ(daemon.WaitExit(), 128 + SIGKILL) << "the fault point was not passed";
  }

  daemon.Start();
  RawClient client(daemon.socket());
  const Steps steps = StepsListed(client, "gpt");
  const bool has_old = std::find(steps.begin(), steps.end(), 100) != steps.end();
  const bool has_new = std::find(steps.begin(), steps.end(), 200) != steps.end();
  EXPECT_TRUE(has_old || has_new) << "a committed checkpoint is never lost";
  if (!crash.old_may_be_there) {
    EXPECT_FALSE(has_old);
  }
  if (crash.new_must_be_there) {
    EXPECT_TRUE(has_new);
  }
  if (!crash.new_may_be_there) {
    EXPECT_FALSE(has_new);
  }
  for (const std::int64_t step : steps) EXPECT_EQ(CheckContent(client, "gpt", step, 2, false), "");
  const auto left = LeftOver(daemon, "gpt", steps);
  EXPECT_TRUE(left.empty()) << left.front();
  const auto left_on_drive = LeftOnDrive(daemon, drive);
  EXPECT_TRUE(left_on_drive.empty()) << left_on_drive.front();

  // And it goes on, with a generation nobody has had.
  const Answer grant = client.BeginRun("gpt", 2);
  ASSERT_TRUE(grant.ok()) << grant;
  EXPECT_GE(grant.response.run_grant().generation(), 2U);
  if (has_new) {
    EXPECT_GE(grant.response.run_grant().generation(), 3U);
  }
  auto ranks = AttachAll(daemon, "gpt", grant.response.run_grant().generation(), 2, 1);
  EXPECT_EQ(Save(ranks, 300).response.snapshot_outcome().state(), wire::COMMITTED);
  EXPECT_EQ(CheckContent(client, "gpt", 300, 2, false), "");
}

TEST_P(CrashTest, RestartFindsOldOrNewAndNothingElse) { RestartFindsOldOrNewAndNothingElse(GetParam(), false); }

class TwoDrivesCrashTest : public testing::TestWithParam<Crash> {};
TEST_P(TwoDrivesCrashTest, RestartFindsOldOrNewAndNothingElse) { RestartFindsOldOrNewAndNothingElse(GetParam(), true); }

constexpr bool kYes = true;
constexpr bool kNo = false;
const std::vector<Crash> kCrashes = {
    // fault, then: the old checkpoint may be there, the new one must be, the new one may be
    Crash{"begin_run.after_generation=kill", kYes, kNo, kNo},
    Crash{"staging.allocate=kill@1", kYes, kNo, kNo},
    Crash{"staging.allocate=kill@2", kYes, kNo, kNo},
    Crash{"write.before_data=kill@1", kYes, kNo, kNo},
    Crash{"write.before_data=kill@2", kYes, kNo, kNo},
    Crash{"write.after_data=kill@1", kYes, kNo, kNo},
    Crash{"write.after_data=kill@3", kYes, kNo, kNo},
    Crash{"write.after_sync=kill@2", kYes, kNo, kNo},
    Crash{"write.after_rename=kill@1", kYes, kNo, kNo},
    Crash{"write.after_rename=kill@2", kYes, kNo, kNo},
    Crash{"commit.before_manifest=kill", kYes, kNo, kNo},
    Crash{"commit.after_manifest_write=kill", kYes, kNo, kNo},
    Crash{"commit.after_manifest_rename=kill", kYes, kYes, kYes},
    Crash{"commit.before_index=kill", kYes, kYes, kYes},
    Crash{"retention.before_mark=kill", kYes, kYes, kYes},
    Crash{"retention.after_mark=kill", kNo, kYes, kYes},
    Crash{"index.write=kill@1", kYes, kNo, kNo},    // the generation
    Crash{"index.write=kill@2", kYes, kNo, kNo},    // a rank is prepared
    Crash{"index.write=kill@4", kYes, kYes, kYes},  // committed
    Crash{"daemon.before_reply=kill@1", kYes, kNo, kNo},
    Crash{"daemon.before_reply=kill@3", kYes, kNo, kNo},
    Crash{"daemon.before_reply=kill@5", kYes, kNo, kNo},
    Crash{"daemon.before_reply=kill@7", kYes, kNo, kYes},
    Crash{"daemon.before_reply=kill@8", kYes, kYes, kYes}};
const std::vector<Crash> kTwoDrivesCrashes = {
    // rank 1 is on the other drive
    Crash{"write.after_data=kill@3", kYes, kNo, kNo},      Crash{"write.after_rename=kill@2", kYes, kNo, kNo},
    Crash{"spread.before_link=kill", kYes, kNo, kNo},      Crash{"spread.after_link=kill", kYes, kNo, kNo},
    Crash{"commit.before_manifest=kill", kYes, kNo, kNo},  Crash{"commit.after_manifest_rename=kill", kYes, kYes, kYes},
    Crash{"retention.before_mark=kill", kYes, kYes, kYes}, Crash{"retention.after_mark=kill", kNo, kYes, kYes},
    Crash{"spread.after_removal=kill", kNo, kYes, kYes}};

std::string NameOf(const testing::TestParamInfo<Crash>& tested) {
  std::string name = tested.param.fault;
  for (char& c : name) c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
  return name;
}
INSTANTIATE_TEST_SUITE_P(Points, CrashTest, testing::ValuesIn(kCrashes), NameOf);
INSTANTIATE_TEST_SUITE_P(Points, TwoDrivesCrashTest, testing::ValuesIn(kTwoDrivesCrashes), NameOf);

// The first start with another drive: whatever it had done, the next one goes on from there.
TEST(FirstCrashTest, AStartThatDiesWhileItTakesInADriveIsRepeated) {
  for (const char* fault : {"spread.before_record=kill", "file.durable.after_write=kill@1",
                            "file.durable.after_rename=kill@1", "file.durable.after_rename=kill@2"}) {
    SCOPED_TRACE(fault);
    DaemonUnderTest daemon;
    const std::vector<std::string> arguments = {"--also-data-dir", daemon.scratch() + "/nvme1"};
    ASSERT_EQ(daemon.RunToEnd({.faults = fault, .arguments = arguments}), 128 + SIGKILL);
    daemon.Start({.faults = "", .arguments = arguments});
    RawClient launcher(daemon.socket());
    ASSERT_TRUE(launcher.BeginRun("gpt", 2).ok());
    auto ranks = AttachAll(daemon, "gpt", 1, 2, 1);
    EXPECT_EQ(Save(ranks, 100).response.snapshot_outcome().state(), wire::COMMITTED);
    EXPECT_TRUE(std::filesystem::exists(daemon.scratch() + "/nvme1/default/gpt"));
  }
}

// A point that is in the list but in no code would make this matrix a sham.
TEST(CrashPointsTest, EveryPointOfTheServiceIsInTheMatrix) {
  std::string matrix;
  for (const auto* crashes : {&kCrashes, &kTwoDrivesCrashes}) {
    for (const Crash& crash : *crashes) matrix += std::string(crash.fault) + " ";
  }
  for (const base::FaultPointInfo& point : base::ListFaultPoints()) {
    const std::string name(point.name);
    if (name == "write.before_link") continue;     // needs frozen tensors: tests/checkpoint/client/belayd_test.cc
    if (name == "spread.before_record") continue;  // of a first start, above
    for (const char* area :
         {"begin_run.", "spread.", "staging.", "write.", "commit.", "retention.", "index.", "daemon."}) {
      if (name.starts_with(area)) {
        EXPECT_NE(matrix.find(name + "="), std::string::npos) << name;
      }
    }
  }
}

}  // namespace
}  // namespace belay::checkpoint
