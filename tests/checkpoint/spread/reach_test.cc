#include "checkpoint/spread/reach.h"

#include "checkpoint/spread/data_folders.h"
#include "runtime/base/sim/mem_file_system.h"
#include "tests/runtime/base/test_util.h"

namespace belay::checkpoint::spread {
namespace {

using base::Code;
using testing::ElementsAre;
using testing::HasSubstr;

class ReachTest : public testing::Test {
 protected:
  void SetUp() override {
    for (const char* folder : {"/home/.belayd", "/nvme1/.belayd"}) ASSERT_OK(base::MakeDirectories(files_, folder));
    ASSERT_OK(base::MakeDirectories(files_, "/home" + kBelow));
    ASSERT_OK(base::MakeDirectories(files_, "/nvme1" + kBelow));
    BindTo(kHome);
    ASSERT_OK(base::WriteFileDurably(files_, DataFoldersFile("/home"),
                                     EncodeDataFolders({kHome, {{"/nvme1", kOne, false}}})));
    ASSERT_OK(base::WriteFileDurably(files_, kPlace, "shard"));
    ASSERT_OK(files_.LinkSymbolic(kPlace, kLink));
  }
  void BindTo(const std::string& home) {
    ASSERT_OK(base::WriteFileDurably(files_, MembershipFile("/nvme1"), EncodeMembership({kOne, home, "/whose"})));
  }

  const std::string kHome = std::string(32, 'a'), kOne = std::string(32, '1');
  const std::string kBelow = "/default/gpt/step-000000100.gen-1";
  const std::string kLink = "/home" + kBelow + "/rank-00001.model.safetensors";
  const std::string kPlace = "/nvme1" + kBelow + "/rank-00001.model.safetensors";
  base::MemFileSystem files_;
};

TEST_F(ReachTest, AFileOfHomeIsAlwaysInReach) {
  EXPECT_OK(CheckReachable(files_, "/home" + kBelow + "/rank-00000.state.json"));
  ASSERT_OK(base::WriteFileDurably(files_, "/home" + kBelow + "/a", "x"));
  EXPECT_OK(CheckReachable(files_, "/home" + kBelow + "/a"));
  EXPECT_EQ(*PlaceOfFile(files_, "/home" + kBelow + "/a"), "/home" + kBelow + "/a");
  EXPECT_EQ(*PlaceOfFile(files_, "/home" + kBelow + "/none"), "/home" + kBelow + "/none");
}

TEST_F(ReachTest, WhereTheFolderIsThereAMissingFileIsMissing) {
  ASSERT_OK(files_.Remove(kPlace));
  EXPECT_OK(CheckReachable(files_, kLink));
  EXPECT_EQ(*PlaceOfFile(files_, kLink), kPlace) << "where it is to be written anew";
}

TEST_F(ReachTest, WhereTheDriveIsNotMountedNothingIsKnown) {
  ASSERT_OK(files_.Rename("/nvme1", "/unmounted"));
  ASSERT_OK(files_.MakeDirectory("/nvme1", 0700));  // the mount point
  const auto reach = CheckReachable(files_, kLink);
  ASSERT_FALSE(reach);
  EXPECT_EQ(reach.error().code, Code::kFolderMissing);
  EXPECT_THAT(reach.error().Text(), HasSubstr("is its drive mounted?"));
  EXPECT_EQ(Explained(files_, kLink, {Code::kNotFound, "no file", nullptr}).code, Code::kFolderMissing);
  EXPECT_EQ(PlaceOfFile(files_, kLink).error().code, Code::kFolderMissing);
}

TEST_F(ReachTest, WhereAnotherDriveIsMountedNothingIsKnown) {
  BindTo(std::string(32, 'b'));
  const auto reach = CheckReachable(files_, kLink);
  ASSERT_FALSE(reach);
  EXPECT_EQ(reach.error().code, Code::kFolderMissing);
  EXPECT_THAT(reach.error().Text(), HasSubstr("/whose"));
}

TEST_F(ReachTest, WhatLayOnADriveThatWasGivenUpIsMissing) {
  ASSERT_OK(files_.Rename("/nvme1", "/unmounted"));
  ASSERT_OK(base::WriteFileDurably(files_, DataFoldersFile("/home"), EncodeDataFolders({kHome, {}})));
  EXPECT_OK(CheckReachable(files_, kLink));
  EXPECT_EQ(Explained(files_, kLink, {Code::kNotFound, "no file", nullptr}).code, Code::kNotFound);
}

TEST_F(ReachTest, ACopiedCheckpointReachesItsFilesByItsLinks) {
  ASSERT_OK(base::MakeDirectories(files_, "/backup/step-000000100.gen-1"));
  const std::string copy = "/backup/step-000000100.gen-1/rank-00001.model.safetensors";
  ASSERT_OK(files_.LinkSymbolic(kPlace, copy));
  EXPECT_OK(CheckReachable(files_, copy));
  ASSERT_OK(base::RemoveTree(files_, "/nvme1"));
  EXPECT_EQ(CheckReachable(files_, copy).error().code, Code::kFolderMissing);
}

TEST_F(ReachTest, LinksOfOthersAreNotWrittenThrough) {
  const std::string link = "/home" + kBelow + "/rank-00002.model.safetensors";
  ASSERT_OK(files_.LinkSymbolic("/etc/passwd", link));
  EXPECT_TRUE(CheckReachable(files_, link)) << "whoever reads follows it, as ever";
  EXPECT_EQ(PlaceOfFile(files_, link).error().code, Code::kUnsupported);
  const std::string sideways = "/home" + kBelow + "/rank-00003.model.safetensors";
  ASSERT_OK(files_.LinkSymbolic(kPlace, sideways));  // another rank's
  EXPECT_EQ(PlaceOfFile(files_, sideways).error().code, Code::kUnsupported);
  EXPECT_THAT(*LinkTargets(files_, "/home" + kBelow), ElementsAre(kPlace, "/etc/passwd", kPlace));
}

}  // namespace
}  // namespace belay::checkpoint::spread
