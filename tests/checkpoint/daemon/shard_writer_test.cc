#include "checkpoint/daemon/shard_writer.h"

#include "checkpoint/format/manifest.h"
#include "checkpoint/spread/data_folders.h"
#include "runtime/base/fault/faulty_file_system.h"
#include "runtime/base/fault_points.h"
#include "runtime/base/sim/mem_file_system.h"
#include "runtime/base/sim/sim_clock.h"
#include "tests/crash/small_state.h"
#include "tests/runtime/base/test_util.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using base::Generation;
using base::Step;

// Rank 1 of two; its shards go to /nvme1 unless that is retired.
class ShardWriterTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK(base::MakeDirectories(files, "/data"));
    ASSERT_OK(base::MakeDirectories(files, "/nvme1/.belayd"));
    ASSERT_OK(base::WriteFileDurably(files, spread::MembershipFile("/nvme1"),
                                     spread::EncodeMembership({kDrive, kHome, "/data"})));
  }
  index::Folders FoldersWith(bool retired) const {
    return index::Folders("/data", {kHome, {{"/nvme1", kDrive, retired}}});
  }
  // Rank 1 at a step; with `from`, its shards are those of an earlier save.
  commit::WriteFinished Write(const index::Folders& folders, std::int64_t step,
                              std::optional<std::int64_t> from = std::nullopt) {
    crash::SealedRank sealed = crash::SealRank(job, {Generation(1), Step(from.value_or(step))}, 1, std::nullopt);
    sealed.order.id.step = Step(step);
    names.clear();
    for (commit::SealedFile& file : sealed.order.files) {
      names.push_back(file.name);
      if (from) file.origin = StepAndGeneration{Step(*from), Generation(1)};
    }
    if (from) sealed.order.previous = previous.value_or(commit::CheckpointId{Generation(1), Step(*from)});
    previous = sealed.order.id;
    return WriteRankFiles(faulty, clock, folders, sealed.order, sealed.staging);
  }
  static std::string Below(std::int64_t step, const std::string& name) {
    return "/default/gpt/" + CheckpointDirectoryName(Step(step), Generation(1)) + "/" + name;
  }
  // Where it leads; empty: it is no link.
  std::string LinkOf(std::int64_t step, const std::string& name) {
    const auto link = files.ReadLink("/data" + Below(step, name));
    EXPECT_TRUE(link) << link.error().Text();
    return link ? link->value_or("") : "";
  }
  std::uint64_t Inode(std::int64_t step, const std::string& name) {
    const auto info = files.Stat("/data" + Below(step, name));
    EXPECT_TRUE(info) << info.error().Text();
    return info ? info->inode : 0;
  }

  const std::string kHome = std::string(32, 'a'), kDrive = std::string(32, '1');
  const commit::JobKey job{"default", "gpt"};
  base::MemFileSystem files;
  base::FaultyFileSystem faulty{files};
  base::SimClock clock;
  std::vector<std::string> names;
  std::optional<commit::CheckpointId> previous;
};

TEST_F(ShardWriterTest, InOneFolderThereAreNoLinks) {
  ASSERT_FALSE(Write(index::Folders("/data"), 10).error);
  for (const std::string& name : names) EXPECT_EQ(LinkOf(10, name), "");
}

TEST_F(ShardWriterTest, ShardsGoToTheRanksFolderAndRecordsStayInHome) {
  ASSERT_FALSE(Write(FoldersWith(false), 10).error);
  ASSERT_EQ(names.size(), 2U);
  for (const std::string& name : names) EXPECT_EQ(LinkOf(10, name), "/nvme1" + Below(10, name));
  EXPECT_EQ(LinkOf(10, RecordsFileName(base::Rank(1))), "");
  files.Crash();
  for (const std::string& name : names) EXPECT_GT(files.Stat("/data" + Below(10, name))->size_bytes, 0U) << "durable";
}

TEST_F(ShardWriterTest, ALinkIsNotMadeBeforeWhatItLeadsToIsDurable) {
  faulty.Add({.path_contains = "/nvme1/default/gpt/step-", .operation = base::FileOperation::kSyncDirectory});
  const auto failed = Write(FoldersWith(false), 10);
  ASSERT_TRUE(failed.error);
  EXPECT_EQ(failed.error->code, Code::kIo);
  EXPECT_FALSE(base::Exists(files, "/data" + Below(10, names[0])));
  EXPECT_FALSE(files.ReadLink("/data" + Below(10, names[0])));
  EXPECT_FALSE(Write(FoldersWith(false), 10).error) << "the same step again";
}

TEST_F(ShardWriterTest, ALinkThatAFailedSaveLeftIsReplaced) {
  ASSERT_TRUE(base::ArmFaults("spread.after_link=io"));
  EXPECT_TRUE(Write(FoldersWith(false), 10).error);
  base::DisarmFaults();
  EXPECT_NE(LinkOf(10, names[0]), "");
  EXPECT_FALSE(Write(FoldersWith(false), 10).error);
  EXPECT_FALSE(Write(FoldersWith(true), 10).error) << "and by a file";
  EXPECT_EQ(LinkOf(10, names[0]), "");
}

TEST_F(ShardWriterTest, AnUnchangedShardIsLinkedOnTheDriveWhereItLies) {
  ASSERT_FALSE(Write(FoldersWith(false), 10).error);
  ASSERT_FALSE(Write(FoldersWith(false), 20, 10).error);
  for (const std::string& name : names) {
    EXPECT_EQ(LinkOf(20, name), "/nvme1" + Below(20, name))
        << "its own name there, so that deleting takes nothing away";
    EXPECT_EQ(Inode(20, name), Inode(10, name));
  }
}

TEST_F(ShardWriterTest, AnUnchangedShardOfHomeStaysInHome) {
  ASSERT_FALSE(Write(index::Folders("/data"), 10).error);
  ASSERT_FALSE(Write(FoldersWith(false), 20, 10).error);
  for (const std::string& name : names) {
    EXPECT_EQ(LinkOf(20, name), "");
    EXPECT_EQ(Inode(20, name), Inode(10, name));
  }
}

TEST_F(ShardWriterTest, AnUnchangedShardOnADroppedDriveIsWrittenAnew) {
  ASSERT_FALSE(Write(FoldersWith(false), 10).error);
  ASSERT_FALSE(Write(FoldersWith(true), 20, 10).error);
  for (const std::string& name : names) {
    EXPECT_EQ(LinkOf(20, name), "");
    EXPECT_NE(Inode(20, name), Inode(10, name));
  }
}

TEST_F(ShardWriterTest, WithoutTheDriveNothingIsWrittenInItsPlace) {
  ASSERT_OK(files.Rename("/nvme1", "/away"));
  const auto failed = Write(FoldersWith(false), 10);
  ASSERT_TRUE(failed.error);
  EXPECT_EQ(failed.error->code, Code::kFolderMissing);
  EXPECT_FALSE(failed.files.empty()) << "what is in memory can still be restored";
  EXPECT_FALSE(base::Exists(files, "/nvme1"));
}

}  // namespace
}  // namespace belay::checkpoint
