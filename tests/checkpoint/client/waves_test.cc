// States larger than belayd's memory budget, saved through the real belayd.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "checkpoint/client/restorer.h"
#include "runtime/base/units.h"
#include "tests/checkpoint/client/belayd_process.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using testing::AllOf;
using testing::HasSubstr;

constexpr std::uint64_t kBudget = 10 * base::kMiB;  // for a state of 12 MiB

std::string Restored(const BelaydProcess& daemon, std::int64_t step) {
  const auto client = daemon.Connect();
  const auto restorer = Restorer::Open(*client, {{"default", "gpt"}, base::Step(step), {}}, false);
  if (!restorer) return restorer.error().Text();
  SampleRank rank(0, 1);
  const auto loaded = (*restorer)->Load(rank.Targets(), 2);
  if (!loaded) return loaded.error().Text();
  rank.ExpectIs(step);
  return "";
}

std::vector<std::int64_t> Points(const BelaydProcess& daemon, bool in_memory) {
  std::vector<std::int64_t> steps;
  const auto points = daemon.Connect()->RestorePoints({"default", "gpt"});
  EXPECT_TRUE(points);
  for (const RestorePoint& point : *points) {
    if (point.in_memory == in_memory) steps.push_back(point.step.value());
  }
  return steps;
}

std::map<std::string, std::string> Files(const BelaydProcess& daemon, const std::string& checkpoint) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(daemon.data_dir() + "/default/gpt/" + checkpoint)) {
    std::ifstream file(entry.path(), std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    files[entry.path().filename()] = text.str();
  }
  return files;
}

TEST(WavesTest, AStateLargerThanTheBudgetIsSavedAndRestoredFromDisk) {
  BelaydProcess daemon(BELAYD_PROGRAM, "", {"--memory-budget", std::to_string(kBudget)});
  Trainers trainers(daemon, 1);
  trainers.Save(10);
  trainers.Save(20);
  EXPECT_TRUE(trainers.snapshotters[0]->InWaves());
  EXPECT_EQ(Restored(daemon, 10), "");
  EXPECT_EQ(Restored(daemon, 20), "");
  EXPECT_TRUE(Points(daemon, true).empty()) << "the window holds a part only";
  EXPECT_LE(daemon.Connect()->GetDaemonStatus()->staging_bytes, kBudget);
  daemon.Kill();
  daemon.Start();
  EXPECT_EQ(Restored(daemon, 20), "");
}

TEST(WavesTest, TheFilesAreThoseOfASaveWithoutWaves) {
  BelaydProcess small(BELAYD_PROGRAM, "", {"--memory-budget", std::to_string(kBudget)}), large(BELAYD_PROGRAM);
  Trainers in_waves(small, 1), at_once(large, 1);
  in_waves.Save(10);
  at_once.Save(10);
  EXPECT_FALSE(at_once.snapshotters[0]->InWaves());
  auto ours = Files(small, "step-000000010.gen-1"), theirs = Files(large, "step-000000010.gen-1");
  for (auto* files : {&ours, &theirs}) files->erase("manifest.json");  // it has the time
  EXPECT_EQ(ours.size(), 3U);
  EXPECT_TRUE(ours == theirs);
}

TEST(WavesTest, ABudgetWithoutRoomForAWindowIsRefusedWithWhatItNeeds) {
  BelaydProcess daemon(BELAYD_PROGRAM, "", {"--memory-budget", std::to_string(4 * base::kMiB)});
  const SampleRun run(daemon, 1);
  SampleRank rank(0, 1);
  const auto refused = run.MakeSnapshotter(daemon, 0, rank);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kNoSpace);
  EXPECT_THAT(refused.error().Text(),
              AllOf(HasSubstr("--memory-budget"), HasSubstr("for it; to save in waves it needs 8.0 MiB")));
}

TEST(WavesTest, ADaemonKilledBetweenTwoWavesLeavesWhatWasCommitted) {
  BelaydProcess daemon(BELAYD_PROGRAM, "wave.after_data=kill@6", {"--memory-budget", std::to_string(kBudget)});
  Trainers trainers(daemon, 1);
  trainers.Save(10);
  ASSERT_TRUE(trainers.snapshotters[0]->Begin(base::Step(20), "interval"));
  const auto copied = trainers.snapshotters[0]->Copy({});
  ASSERT_FALSE(copied) << "the fault point was not passed";
  EXPECT_EQ(copied.error().code, Code::kUnavailable);
  daemon.Kill();  // what is left of it
  daemon.Start();
  EXPECT_FALSE(std::filesystem::exists(daemon.data_dir() + "/default/gpt/step-000000020.gen-1"));
  EXPECT_EQ(Restored(daemon, 10), "");
  trainers.Save(30);
  EXPECT_EQ(Restored(daemon, 30), "");
}

TEST(WavesTest, AFullDiskEndsTheSaveAndNotTheNext) {
  BelaydProcess daemon(BELAYD_PROGRAM, "wave.after_data=nospace@2", {"--memory-budget", std::to_string(kBudget)});
  Trainers trainers(daemon, 1);
  ASSERT_TRUE(trainers.snapshotters[0]->Begin(base::Step(10), "interval"));
  const auto copied = trainers.snapshotters[0]->Copy({});
  ASSERT_FALSE(copied);
  EXPECT_EQ(copied.error().code, Code::kNoSpace) << copied.error().Text();
  trainers.Save(20);
  EXPECT_FALSE(std::filesystem::exists(daemon.data_dir() + "/default/gpt/step-000000010.gen-1"));
  EXPECT_EQ(Restored(daemon, 20), "");
}

TEST(WavesTest, AStateThatChangedMeanwhileIsGivenUp) {
  BelaydProcess daemon(BELAYD_PROGRAM, "", {"--memory-budget", std::to_string(kBudget)});
  Trainers trainers(daemon, 1);
  ASSERT_TRUE(trainers.snapshotters[0]->Begin(base::Step(10), "interval"));
  EXPECT_EQ(trainers.snapshotters[0]->Copy({.unchanged = [] { return false; }}).error().code, Code::kSnapshotTorn);
  trainers.Save(20);
  EXPECT_EQ(Restored(daemon, 20), "");
}

}  // namespace
}  // namespace belay::checkpoint
