#include "checkpoint/index/other_folders.h"

#include <algorithm>

#include "runtime/base/fault/faulty_file_system.h"
#include "runtime/base/fault_points.h"
#include "runtime/base/sim/mem_file_system.h"
#include "tests/runtime/base/test_util.h"

namespace belay::checkpoint::index {
namespace {

using base::Code;
using base::Generation;
using base::Rank;
using base::Step;
using testing::ElementsAre;
using testing::IsEmpty;

const std::string kHomeId(32, 'a');

class OtherFoldersTest : public testing::Test {
 protected:
  const commit::JobKey job{"default", "gpt"};
  const commit::CheckpointId id{Generation(1), Step(100)};
  const spread::OtherFolder one{"/nvme1", std::string(32, '1'), false}, two{"/nvme2", std::string(32, '2'), false};
  const Folders folders{"/data", {kHomeId, {one, two}}};

  void SetUp() override {
    ASSERT_OK(base::MakeDirectories(files, "/data/.belayd"));
    for (const auto& other : folders.others()) {
      ASSERT_OK(base::MakeDirectories(files, other.path + "/.belayd"));
      ASSERT_OK(base::WriteFileDurably(files, spread::MembershipFile(other.path),
                                       spread::EncodeMembership({other.id, kHomeId, "/data"})));
    }
  }
  // A shard in `other`, and the link to it in home.
  void Put(const spread::OtherFolder& other, const std::string& name) {
    ASSERT_OK(base::MakeDirectories(files, folders.Checkpoint(job, id)));
    const auto directory = MakeInOther(files, folders, other, job, id);
    ASSERT_OK(directory);
    ASSERT_OK(base::WriteFileDurably(files, *directory + "/" + name, "shard"));
    ASSERT_OK(files.LinkSymbolic(*directory + "/" + name, folders.Checkpoint(job, id) + "/" + name));
  }
  void Unmount(const spread::OtherFolder& other) { ASSERT_OK(files.Rename(other.path, "/away")); }
  bool Exists(const std::string& path) { return base::Exists(files, path); }

  base::MemFileSystem files;
};

TEST_F(OtherFoldersTest, RanksGoToTheFoldersThatAreWrittenTo) {
  EXPECT_EQ(FolderFor(folders, Rank(0)), nullptr);
  EXPECT_EQ(FolderFor(folders, Rank(1))->path, "/nvme1");
  EXPECT_EQ(FolderFor(folders, Rank(2))->path, "/nvme2");
  EXPECT_EQ(FolderFor(folders, Rank(3)), nullptr);
  EXPECT_EQ(FolderFor(Folders("/data"), Rank(1)), nullptr);
  spread::OtherFolder retired = one;
  retired.retired = true;
  const Folders fewer("/data", {kHomeId, {retired, two}});
  EXPECT_EQ(FolderFor(fewer, Rank(0)), nullptr);
  EXPECT_EQ(FolderFor(fewer, Rank(1))->path, "/nvme2");
  EXPECT_EQ(FolderFor(fewer, Rank(2)), nullptr);
}

TEST_F(OtherFoldersTest, ACheckpointsFolderIsMadeDurably) {
  const auto directory = MakeInOther(files, folders, one, job, id);
  ASSERT_OK(directory);
  EXPECT_EQ(*directory, "/nvme1/default/gpt/step-000000100.gen-1");
  EXPECT_TRUE(MakeInOther(files, folders, one, job, id)) << "again";
  files.Crash();
  EXPECT_TRUE(Exists(*directory));
}

TEST_F(OtherFoldersTest, NothingIsMadeBelowAMountPoint) {
  Unmount(one);
  EXPECT_EQ(MakeInOther(files, folders, one, job, id).error().code, Code::kFolderMissing);
  EXPECT_FALSE(Exists("/nvme1"));
  ASSERT_OK(files.MakeDirectory("/nvme1", 0700));
  EXPECT_EQ(MakeInOther(files, folders, one, job, id).error().code, Code::kFolderMissing);
  EXPECT_THAT(*files.List("/nvme1"), IsEmpty());
}

TEST_F(OtherFoldersTest, ALeftoverIsRemovedEverywhere) {
  Put(one, "rank-00001.model.safetensors");
  Put(two, "rank-00002.model.safetensors");
  ASSERT_OK(RemoveLeftover(files, folders, folders.Checkpoint(job, id)));
  files.Crash();
  for (const char* root : {"/data", "/nvme1", "/nvme2"}) {
    EXPECT_THAT(*files.List(std::string(root) + "/default/gpt"), IsEmpty()) << root;
  }
}

TEST_F(OtherFoldersTest, HomesFolderIsTheLastToGo) {
  Put(one, "rank-00001.model.safetensors");
  Put(two, "rank-00002.model.safetensors");
  ASSERT_TRUE(base::ArmFaults("spread.after_removal=io@2"));
  EXPECT_FALSE(RemoveLeftover(files, folders, folders.Checkpoint(job, id)));
  base::DisarmFaults();
  EXPECT_TRUE(Exists(folders.Checkpoint(job, id))) << "so that the rest is found";
  EXPECT_OK(RemoveLeftover(files, folders, folders.Checkpoint(job, id)));
  EXPECT_FALSE(Exists(folders.Checkpoint(job, id)));
}

TEST_F(OtherFoldersTest, WhatHasFilesOnADriveThatIsNotThereStays) {
  Put(one, "rank-00001.model.safetensors");
  Unmount(two);
  EXPECT_TRUE(CheckDeletable(files, folders, folders.Checkpoint(job, id))) << "it has nothing there";
  ASSERT_OK(files.Rename("/away", "/nvme2"));
  Unmount(one);
  EXPECT_EQ(CheckDeletable(files, folders, folders.Checkpoint(job, id)).error().code, Code::kFolderMissing);
  EXPECT_EQ(RemoveLeftover(files, folders, folders.Checkpoint(job, id)).error().code, Code::kFolderMissing);
  EXPECT_THAT(*files.List(folders.Checkpoint(job, id)), ElementsAre("rank-00001.model.safetensors"));
  EXPECT_TRUE(Exists("/away/default/gpt/step-000000100.gen-1/rank-00001.model.safetensors"));
}

TEST_F(OtherFoldersTest, FoldersThatHomeDoesNotHaveAreStray) {
  Put(one, "rank-00001.model.safetensors");
  EXPECT_THAT(FindStrays(files, folders), IsEmpty());
  ASSERT_OK(base::RemoveTree(files, "/data/default"));
  ASSERT_OK(base::MakeDirectories(files, "/nvme1/default/gpt/notes"));
  ASSERT_OK(base::MakeDirectories(files, "/nvme1/lost+found"));
  EXPECT_THAT(FindStrays(files, folders), ElementsAre("/nvme1/default/gpt/step-000000100.gen-1"));
  ASSERT_OK(RemoveLeftover(files, folders, "/nvme1/default/gpt/step-000000100.gen-1"));
  EXPECT_THAT(*files.List("/nvme1/default/gpt"), ElementsAre("notes"));
}

TEST_F(OtherFoldersTest, WhatHomeCannotLookAtIsNotStray) {
  Put(one, "rank-00001.model.safetensors");
  base::FaultyFileSystem faulty(files);
  faulty.Add({.path_contains = "/data/default", .operation = base::FileOperation::kStat, .count = 0});
  EXPECT_THAT(FindStrays(faulty, folders), IsEmpty());
}

TEST_F(OtherFoldersTest, FoldersMadeByADaemonThatDiedBecomeDurable) {
  for (const char* path : {"/nvme1/default", "/nvme1/default/gpt"}) ASSERT_OK(files.MakeDirectory(path, 0700));
  ASSERT_OK(SyncOtherFolders(files, folders));
  files.Crash();
  EXPECT_TRUE(Exists("/nvme1/default/gpt"));
}

TEST_F(OtherFoldersTest, SpaceIsAskedOfFoldersThatAreWrittenTo) {
  Unmount(two);
  const auto space = SpaceOf(files, folders);
  ASSERT_EQ(space.size(), 3U);
  EXPECT_EQ(space[0].path, "/data");
  EXPECT_EQ(space[1].path, "/nvme1");
  EXPECT_EQ(space[1].device, space[0].device);
  EXPECT_GT(space[1].available_bytes, 0U);
  EXPECT_FALSE(space[1].missing);
  ASSERT_TRUE(space[2].missing);
  EXPECT_EQ(space[2].missing->code, Code::kFolderMissing);
  EXPECT_EQ(SpaceOf(files, Folders("/data")).size(), 1U);
}

}  // namespace
}  // namespace belay::checkpoint::index
