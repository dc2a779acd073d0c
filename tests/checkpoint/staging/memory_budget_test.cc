#include "checkpoint/staging/memory_budget.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include "runtime/base/sim/mem_file_system.h"
#include "tests/runtime/base/test_util.h"

namespace belay::checkpoint {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(MemoryBudgetTest, LooksAtEveryGroupUpToTheRoot) {
  EXPECT_THAT(MemoryLimitFiles("0::/slurm/job_7/step_0\n"),
              ElementsAre("/sys/fs/cgroup/slurm/job_7/step_0/memory.max", "/sys/fs/cgroup/slurm/job_7/memory.max",
                          "/sys/fs/cgroup/slurm/memory.max", "/sys/fs/cgroup/memory.max"));
  EXPECT_THAT(MemoryLimitFiles("0::/\n"), ElementsAre("/sys/fs/cgroup/memory.max"));
}

TEST(MemoryBudgetTest, KnowsTheFirstVersionToo) {
  EXPECT_THAT(
      MemoryLimitFiles("5:cpu,cpuacct:/a\n4:memory,hugetlb:/a\n1:name=systemd:/b\n"),
      ElementsAre("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"));
}

TEST(MemoryBudgetTest, NonsenseIsNoGroup) {
  EXPECT_THAT(MemoryLimitFiles(""), IsEmpty());
  EXPECT_THAT(MemoryLimitFiles("memory\n:\n"), IsEmpty());
}

TEST(MemoryBudgetTest, TheLeastLimitCounts) {
  base::MemFileSystem files;
  ASSERT_OK(files.MakeDirectory("/g", 0755));
  ASSERT_OK(base::WriteFileDurably(files, "/g/outer", "4294967296\n"));
  ASSERT_OK(base::WriteFileDurably(files, "/g/inner", "1073741824\n"));
  ASSERT_OK(base::WriteFileDurably(files, "/g/none", "max\n"));
  EXPECT_EQ(LeastMemoryLimit(files, {"/g/outer", "/g/inner", "/g/none", "/g/missing"}), 1073741824U);
  EXPECT_EQ(LeastMemoryLimit(files, {"/g/none", "/g/missing"}), std::nullopt);
}

TEST(MemoryBudgetTest, IsNeverMoreThanHalfOfTheMachine) {
  const std::uint64_t budget = DefaultMemoryBudget(base::PosixFileSystem());
  EXPECT_GT(budget, 0U);
  EXPECT_LE(budget, static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE) / 2);
}

}  // namespace
}  // namespace belay::checkpoint
