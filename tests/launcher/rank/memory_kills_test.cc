#include "launcher/rank/memory_kills.h"

#include "runtime/base/sim/mem_file_system.h"
#include "runtime/base/sim/sim_clock.h"
#include "tests/runtime/base/test_util.h"

namespace belay::launcher {
namespace {

using std::chrono::milliseconds;

TEST(KillCountTest, IsReadFromEveryKindOfFile) {
  EXPECT_EQ(KillCount("low 0\nhigh 0\nmax 7\noom 3\noom_kill 2\noom_group_kill 1\n"), 2U);  // memory.events
  EXPECT_EQ(KillCount("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"), 5U);                // memory.oom_control
  EXPECT_EQ(KillCount("nr_free_pages 1\noom_kill 0"), 0U);                                  // vmstat
  EXPECT_EQ(KillCount("oom 3\noom_kill_disable 1\n"), std::nullopt);
  EXPECT_EQ(KillCount("oom_kill \noom_kill x\noom_kill 99999999999999999999999\n"), std::nullopt);
  EXPECT_EQ(KillCount(""), std::nullopt);
}

TEST(KillCountFilesTest, OwnGroupFirstThenThoseAboveTheMachineLast) {
  EXPECT_THAT(KillCountFiles("0::/slurm/job_7\n"),
              testing::ElementsAre("/sys/fs/cgroup/slurm/job_7/memory.events", "/sys/fs/cgroup/slurm/memory.events",
                                   "/sys/fs/cgroup/memory.events", "/proc/vmstat"));
  EXPECT_THAT(KillCountFiles("12:cpu,cpuacct:/x\n9:memory:/job\n"),
              testing::ElementsAre("/sys/fs/cgroup/memory/job/memory.oom_control",
                                   "/sys/fs/cgroup/memory/memory.oom_control", "/proc/vmstat"));
  EXPECT_THAT(KillCountFiles("0::/\n"), testing::ElementsAre("/sys/fs/cgroup/memory.events", "/proc/vmstat"));
  EXPECT_THAT(KillCountFiles("nonsense\n:\n"), testing::ElementsAre("/proc/vmstat"));
}

class MemoryKillsTest : public testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    ASSERT_OK(base::MakeDirectories(files_, base::ParentPath(path)));
    ASSERT_OK(base::WriteFileDurably(files_, path, text));
  }
  void SetMachine(int kills) { Write("/proc/vmstat", base::Str("oom_kill ", kills, "\n")); }
  void SetGroup(int kills) { Write("/sys/fs/cgroup/job/memory.events", base::Str("oom 0\noom_kill ", kills, "\n")); }

  base::MemFileSystem files_;
  base::SimClock clock_;
};

TEST_F(MemoryKillsTest, OnlyTheOwnGroupCounts) {
  Write("/proc/self/cgroup", "0::/job\n");
  SetGroup(1);
  SetMachine(5);
  MemoryKills kills(files_, clock_);
  EXPECT_FALSE(kills.Recent()) << "of an earlier program";
  SetMachine(6);  // somebody else's process on a shared node
  kills.Look();
  EXPECT_FALSE(kills.Recent());
  SetGroup(2);
  kills.Look();
  EXPECT_TRUE(kills.Recent());
}

TEST_F(MemoryKillsTest, OnlyTheLastMomentsCount) {
  SetMachine(5);
  MemoryKills kills(files_, clock_);
  SetMachine(6);
  kills.Look();
  EXPECT_TRUE(kills.Recent());
  clock_.SleepFor(MemoryKills::kRecent + milliseconds(1));
  kills.Look();
  EXPECT_FALSE(kills.Recent()) << "a kill -9 days later is nobody's memory";
  SetMachine(7);
  kills.Look();
  EXPECT_TRUE(kills.Recent());
}

TEST_F(MemoryKillsTest, CountsOfDifferentFilesAreNotCompared) {
  Write("/proc/self/cgroup", "0::/job\n");
  SetGroup(0);
  SetMachine(5);
  MemoryKills kills(files_, clock_);
  ASSERT_OK(files_.Remove("/sys/fs/cgroup/job/memory.events"));
  kills.Look();
  EXPECT_FALSE(kills.Recent());
}

TEST_F(MemoryKillsTest, WhereNobodyCountsNothingIsClaimed) {
  MemoryKills kills(files_, clock_);
  SetMachine(5);
  kills.Look();
  EXPECT_FALSE(kills.Recent());
}

}  // namespace
}  // namespace belay::launcher
