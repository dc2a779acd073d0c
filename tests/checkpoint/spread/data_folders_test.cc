#include "checkpoint/spread/data_folders.h"

#include "runtime/base/fault/faulty_file_system.h"
#include "runtime/base/sim/mem_file_system.h"
#include "tests/runtime/base/test_util.h"

namespace belay::checkpoint::spread {
namespace {

using base::Code;

const std::string kHome(32, 'a'), kOne(32, '1'), kTwo(32, '2');

TEST(DataFoldersTest, ARecordSaysWhatWasPutIntoIt) {
  const DataFolders folders{kHome, {{"/nvme1/belay", kOne, false}, {"/a \"b\"", kTwo, true}}};
  const auto back = DecodeDataFolders(EncodeDataFolders(folders));
  ASSERT_TRUE(back) << back.error().Text();
  EXPECT_EQ(*back, folders);
  EXPECT_EQ(*DecodeDataFolders(EncodeDataFolders({kHome, {}})), (DataFolders{kHome, {}}));
  const auto membership = DecodeMembership(EncodeMembership({kOne, kHome, "/home"}));
  ASSERT_TRUE(membership) << membership.error().Text();
  EXPECT_EQ(membership->id, kOne);
  EXPECT_EQ(membership->home, kHome);
  EXPECT_EQ(membership->home_path, "/home");
}

TEST(DataFoldersTest, WhatIsNoRecordIsRefused) {
  const std::string good = EncodeDataFolders({kHome, {{"/nvme1/belay", kOne, false}}});
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    return DecodeDataFolders(text);
  };
  EXPECT_TRUE(with("1,", "1,"));
  EXPECT_EQ(with("\"version\": 1", "\"version\": 2").error().code, Code::kFormatVersion);
  EXPECT_EQ(with("belay-data-folders", "belay-manifest").error().code, Code::kCorrupt);
  EXPECT_EQ(with(kHome, "short").error().code, Code::kCorrupt);
  for (const char* path : {"relative", "/", "/a/", "/a//b", "/a/../b", ""}) {
    EXPECT_EQ(with("/nvme1/belay", path).error().code, Code::kCorrupt) << path;
  }
  EXPECT_EQ(DecodeDataFolders("{").error().code, Code::kCorrupt);
  EXPECT_EQ(DecodeDataFolders("{}").error().code, Code::kCorrupt);
  EXPECT_EQ(DecodeMembership(good).error().code, Code::kCorrupt);
}

TEST(DataFoldersTest, AHomeWithoutARecordHasNoOthers) {
  base::MemFileSystem files;
  ASSERT_OK(base::MakeDirectories(files, "/home/.belayd"));
  const auto none = ReadDataFolders(files, "/home");
  ASSERT_TRUE(none);
  EXPECT_EQ(*none, DataFolders());
  ASSERT_OK(base::WriteFileDurably(files, DataFoldersFile("/home"), "rubbish"));
  EXPECT_EQ(ReadDataFolders(files, "/home").error().code, Code::kCorrupt) << "not taken for none";
}

TEST(DataFoldersTest, AFolderIsHereIfItSaysSoItself) {
  base::MemFileSystem files;
  const OtherFolder folder{"/nvme1", kOne, false};
  EXPECT_EQ(CheckHere(files, kHome, folder).error().code, Code::kFolderMissing);
  ASSERT_OK(base::MakeDirectories(files, "/nvme1/.belayd"));  // an empty mount point has not even that
  EXPECT_EQ(CheckHere(files, kHome, folder).error().code, Code::kFolderMissing);
  ASSERT_OK(base::WriteFileDurably(files, MembershipFile("/nvme1"), EncodeMembership({kOne, kHome, "/home"})));
  EXPECT_OK(CheckHere(files, kHome, folder));
  EXPECT_EQ(CheckHere(files, kTwo, folder).error().code, Code::kFolderMissing) << "another home's";
  EXPECT_EQ(CheckHere(files, kHome, {"/nvme1", kTwo, false}).error().code, Code::kFolderMissing)
      << "drives changed places";
  base::FaultyFileSystem faulty(files);
  faulty.Add({.path_contains = "folder.json", .operation = base::FileOperation::kRead, .count = 0});
  EXPECT_EQ(CheckHere(faulty, kHome, folder).error().code, Code::kIo);
}

}  // namespace
}  // namespace belay::checkpoint::spread
