// Disks that fail, fill up or refuse: a failed save has its reason, leaves nothing, and the next one works.
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "runtime/base/error_codes.h"
#include "tests/checkpoint/daemon/daemon_harness.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using Steps = std::vector<std::int64_t>;

std::uint32_t Number(Code code) { return static_cast<std::uint32_t>(code); }

class DiskTroubleTest : public testing::TestWithParam<const char*> {};

// Each of these fails one save; the one after it is whole.
TEST_P(DiskTroubleTest, FailsOneSaveWithItsReason) {
  DaemonUnderTest daemon;
  const std::string point = GetParam();
  // Passed once in the first save, so the second is hit. write.before_data and its like are passed once a rank or file.
  const bool per_snapshot = point.starts_with("commit.");
  const bool per_rank = point == "write.before_data" || point == "write.after_rename";
  daemon.Start({.faults = point + (per_snapshot ? "=nospace@2"
                                   : per_rank   ? "=nospace@3"
                                                : "=nospace@5"),
                .arguments = {}});
  RawClient launcher(daemon.socket());
  launcher.BeginRun("gpt", 2);
  auto ranks = AttachAll(daemon, "gpt", 1, 2);
  ASSERT_EQ(Save(ranks, 100).response.snapshot_outcome().state(), wire::COMMITTED);
  const Answer failed = Save(ranks, 200);
  ASSERT_TRUE(failed.ok()) << failed;
  EXPECT_EQ(failed.response.snapshot_outcome().state(), wire::FAILED);
  EXPECT_EQ(failed.response.snapshot_outcome().failure().code(), Number(Code::kNoSpace));
  EXPECT_EQ(StepsListed(launcher, "gpt"), (Steps{100}));
  EXPECT_TRUE(LeftOver(daemon, "gpt", {100}).empty()) << LeftOver(daemon, "gpt", {100}).front();
  // It is whole in memory, and restorable from there.
  ASSERT_EQ(launcher.Points("gpt").response.restore_point_list().points_size(), 2);
  EXPECT_EQ(CheckContent(launcher, "gpt", 200, 2, true), "");
  EXPECT_EQ(Save(ranks, 300).response.snapshot_outcome().state(), wire::COMMITTED);
  EXPECT_EQ(CheckContent(launcher, "gpt", 300, 2, false), "");
  EXPECT_EQ(StepsListed(launcher, "gpt"), (Steps{100, 300}));
}

INSTANTIATE_TEST_SUITE_P(Points, DiskTroubleTest,
                         testing::Values("write.before_data", "write.after_data", "write.after_sync",
                                         "write.after_rename", "commit.before_manifest", "commit.after_manifest_write",
                                         "commit.after_manifest_rename"),
                         [](const auto& tested) {
                           std::string name = tested.param;
                           for (char& c : name) c = c == '.' ? '_' : c;
                           return name;
                         });

TEST(DiskTroubleTest, AnIndexThatCannotBeWrittenDoesNotFailACommit) {
  DaemonUnderTest daemon;
  daemon.Start({.faults = "index.write=io@3", .arguments = {}});  // 1: the generation, 2: rank 0 prepared, 3: committed
  RawClient launcher(daemon.socket());
  launcher.BeginRun("gpt", 1);
  auto ranks = AttachAll(daemon, "gpt", 1, 1);
  ASSERT_EQ(Save(ranks, 100).response.snapshot_outcome().state(), wire::COMMITTED);
  EXPECT_NE(daemon.LogText().find("index_not_written"), std::string::npos);
  daemon.Kill();
  daemon.Start();
  RawClient client(daemon.socket());
  EXPECT_EQ(StepsListed(client, "gpt"), (Steps{100})) << "found from the files";
}

// A small file system of its own.
class Mounted {
 public:
  explicit Mounted(const std::string& options) {
    std::string pattern = std::filesystem::path(testing::TempDir()) / "belay-mount-XXXXXX";
    path = ::mkdtemp(pattern.data());
    mounted = ::mount("tmpfs", path.c_str(), "tmpfs", 0, options.c_str()) == 0;
  }
  ~Mounted() {
    if (mounted) ::umount2(path.c_str(), MNT_DETACH);
    std::filesystem::remove(path);
  }
  void MakeReadOnly() { ASSERT_EQ(::mount("tmpfs", path.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, nullptr), 0); }
  bool IsMounted() const { return mounted; }
  std::string path;
  bool mounted = false;
};
#define NEED_MOUNT(disk) \
  if (!(disk).IsMounted()) GTEST_SKIP() << "needs the right to mount a tmpfs (root outside a locked-down container)"

TEST(FullDiskTest, TooLittleSpaceIsSaidBeforeAnyByteIsCopied) {
  Mounted small("size=96m");  // 64 MiB stay in reserve; the index and its log take some 10, a save 2
  NEED_MOUNT(small);
  DaemonUnderTest daemon(small.path);
  daemon.Start();
  RawClient launcher(daemon.socket());
  ASSERT_TRUE(launcher.BeginRun("gpt", 2).ok());
  auto ranks = AttachAll(daemon, "gpt", 1, 2);
  ASSERT_EQ(Save(ranks, 100).response.snapshot_outcome().state(), wire::COMMITTED);
  std::ofstream(small.path + "/filler") << std::string(30 << 20, 'x');
  const Answer refused = ranks[0]->Begin(200);
  EXPECT_EQ(refused.code(), Number(Code::kNoSpace)) << refused;
  EXPECT_NE(refused.response.failure().message().find("MiB"), std::string::npos);
  EXPECT_EQ(ranks[1]->Begin(200).code(), Number(Code::kNoSpace));
  std::filesystem::remove(small.path + "/filler");
  EXPECT_EQ(Save(ranks, 300).response.snapshot_outcome().state(), wire::COMMITTED);
}

TEST(FullDiskTest, ADiskThatFillsUpWhileWritingFailsOnlyTheSave) {
  Mounted small("size=96m");
  NEED_MOUNT(small);
  DaemonUnderTest daemon(small.path);
  daemon.Start();
  RawClient launcher(daemon.socket());
  ASSERT_TRUE(launcher.BeginRun("gpt", 2).ok());
  auto ranks = AttachAll(daemon, "gpt", 1, 2);
  ASSERT_EQ(Save(ranks, 100).response.snapshot_outcome().state(), wire::COMMITTED);
  for (auto& rank : ranks) ASSERT_TRUE(rank->Begin(200).ok());
  {
    std::ofstream filler(small.path + "/filler");  // somebody else takes all there is
    const std::string block(1 << 20, 'x');
    while (filler.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
    }
  }
  for (auto& rank : ranks) {
    rank->Fill(200);
    ASSERT_TRUE(rank->Seal(200).ok());
  }
  const Answer outcome = ranks[0]->Wait(200);
  EXPECT_EQ(outcome.response.snapshot_outcome().state(), wire::FAILED);
  EXPECT_EQ(outcome.response.snapshot_outcome().failure().code(), Number(Code::kNoSpace));
  EXPECT_EQ(CheckContent(launcher, "gpt", 200, 2, true), "");
  EXPECT_EQ(CheckContent(launcher, "gpt", 100, 2, false), "");
  std::filesystem::remove(small.path + "/filler");
  EXPECT_TRUE(LeftOver(daemon, "gpt", {100}).empty());
  EXPECT_EQ(Save(ranks, 300).response.snapshot_outcome().state(), wire::COMMITTED);
  ASSERT_EQ(daemon.Stop(), 0);
  daemon.Start();
  RawClient client(daemon.socket());
  EXPECT_EQ(StepsListed(client, "gpt"), (Steps{100, 300}));
}

TEST(ReadOnlyDiskTest, ADaemonSaysThatItCannotStart) {
  Mounted disk("size=16m");
  NEED_MOUNT(disk);
  disk.MakeReadOnly();
  DaemonUnderTest daemon(disk.path);
  EXPECT_EQ(daemon.RunToEnd(), static_cast<int>(base::ExitStatus::kCannotCreate));
}

TEST(ReadOnlyDiskTest, ADiskThatTurnsReadOnlyFailsTheSave) {
  Mounted disk("size=200m");
  NEED_MOUNT(disk);
  std::filesystem::create_directory(disk.path + "/data");
  DaemonUnderTest daemon(disk.path + "/data");
  daemon.Start();
  RawClient launcher(daemon.socket());
  ASSERT_TRUE(launcher.BeginRun("gpt", 1).ok());
  auto ranks = AttachAll(daemon, "gpt", 1, 1);
  ASSERT_EQ(Save(ranks, 100).response.snapshot_outcome().state(), wire::COMMITTED);
  // The kernel would not remount while files are open for writing: the folder alone is made read-only, over itself.
  const std::string job = daemon.data_dir() + "/default/gpt";
  ASSERT_EQ(::mount(job.c_str(), job.c_str(), nullptr, MS_BIND, nullptr), 0);
  ASSERT_EQ(::mount(nullptr, job.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr), 0);
  const Answer outcome = Save(ranks, 200);
  EXPECT_EQ(outcome.response.snapshot_outcome().state(), wire::FAILED);
  EXPECT_EQ(outcome.response.snapshot_outcome().failure().code(), Number(Code::kReadOnly));
  EXPECT_EQ(CheckContent(launcher, "gpt", 100, 1, false), "");
  ASSERT_EQ(::umount2(job.c_str(), MNT_DETACH), 0);
  EXPECT_EQ(Save(ranks, 300).response.snapshot_outcome().state(), wire::COMMITTED);
}

}  // namespace
}  // namespace belay::checkpoint
