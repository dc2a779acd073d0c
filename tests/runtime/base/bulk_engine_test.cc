// Engines whose helpers the machine refuses: fewer threads, a kernel that takes no more requests.
#include "runtime/base/posix/bulk_engine.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include "runtime/base/units.h"
#include "tests/runtime/base/test_util.h"
#include "tests/runtime/base/thread_famine.h"

namespace belay::base {
namespace {

const BulkShape kShape;
constexpr std::size_t kBytes = 5 * 4 * kMiB;

// A file in memory that has no name.
int ScratchFile() { return ::memfd_create("bulk", MFD_CLOEXEC); }

bool WritesAndReads(BulkEngine& engine) {
  const int fd = ScratchFile();
  auto* data = static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, 2 * kBytes));
  std::memset(data, 0x5A, kBytes);
  const auto wrote = engine.Run({Transfer::Kind::kWrite, fd, 0, data, kBytes});
  const auto read = engine.Run({Transfer::Kind::kRead, fd, 0, data + kBytes, kBytes});
  const bool same = std::memcmp(data, data + kBytes, kBytes) == 0;
  std::free(data);
  ::close(fd);
  return wrote.error == 0 && wrote.bytes == kBytes && read.error == 0 && read.bytes == kBytes && same;
}

[[noreturn]] void RunWithoutHelpers() {
  const auto engine = MakeThreadEngine(kShape);
  const int fd = ScratchFile();
  auto* data =
      static_cast<std::byte*>(::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (!StarveOfThreads()) ::_exit(1);
  const auto wrote = engine->Run({Transfer::Kind::kWrite, fd, 0, data, kBytes});
  ::_exit(wrote.error == 0 && wrote.bytes == kBytes ? 0 : 2);
}

TEST(BulkEngineDeathTest, TheThreadEngineGoesOnWithTheThreadsItHas) {
  if (!kThreadFamineIsSurvivable) GTEST_SKIP() << "a sanitizer does not outlive a lack of address space";
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(RunWithoutHelpers(), testing::ExitedWithCode(0), "");
}

TEST(BulkEngineTest, EveryShapeMovesTheSameBytes) {
  const BulkShape shapes[] = {
      {kBulkBlockBytesMin, 1}, {kMiB, 32}, {kMiB, kBulkQueueDepthMax}, {kBulkBlockBytesMax, 16}};
  for (const BulkShape& shape : shapes) {
    SCOPED_TRACE(shape.block_bytes);
    if (const auto engine = MakeUringEngine(shape)) EXPECT_TRUE(WritesAndReads(*engine));
    EXPECT_TRUE(WritesAndReads(*MakeThreadEngine(shape)));
    EXPECT_TRUE(WritesAndReads(*MakeBufferedEngine(shape)));
  }
}

TEST(BulkShapeTest, HasBounds) {
  EXPECT_TRUE(IsUsable(BulkShape()));
  EXPECT_TRUE(IsUsable({kBulkBlockBytesMin, 1}));
  EXPECT_TRUE(IsUsable({kBulkBlockBytesMax, 16}));
  EXPECT_TRUE(IsUsable({4 * kMiB, kBulkQueueDepthMax}));
  EXPECT_FALSE(IsUsable({kBulkBlockBytesMin / 2, 1}));
  EXPECT_FALSE(IsUsable({2 * kBulkBlockBytesMax, 1}));
  EXPECT_FALSE(IsUsable({3 * kMiB, 16})) << "no power of two";
  EXPECT_FALSE(IsUsable({4 * kMiB, 0}));
  EXPECT_FALSE(IsUsable({kBulkBlockBytesMin, kBulkQueueDepthMax + 1}));
  EXPECT_FALSE(IsUsable({kBulkBlockBytesMax, 17})) << "too much in flight";
}

// io_uring_enter fails from now on.
bool RefuseRequests(int error) {
  sock_filter program[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_enter, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog whole{4, program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &whole) == 0;
}

// 0: as it should be; 100: there is no io_uring here, or nothing may be refused.
[[noreturn]] void RunWhereTheKernelTakesNoRequests() {
  const auto engine = MakeUringEngine(kShape);
  if (engine == nullptr) ::_exit(100);
  if (!WritesAndReads(*engine)) ::_exit(1);
  if (!RefuseRequests(ENOMEM)) ::_exit(100);
  const int fd = ScratchFile();
  auto* data = static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, kBytes));
  std::memset(data, 0, kBytes);
  for (int attempt = 0; attempt < 2; ++attempt) {  // the second on a ring made anew
    const auto wrote = engine->Run({Transfer::Kind::kWrite, fd, 0, data, kBytes});
    if (wrote.error != ENOMEM || wrote.bytes != 0) ::_exit(2);
  }
  ::_exit(0);
}

TEST(BulkEngineDeathTest, AKernelThatTakesNoRequestsIsTheTransfersError) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto ended_well = [](int status) { return WIFEXITED(status) && WEXITSTATUS(status) % 100 == 0; };
  EXPECT_EXIT(RunWhereTheKernelTakesNoRequests(), ended_well, "");
}

}  // namespace
}  // namespace belay::base
