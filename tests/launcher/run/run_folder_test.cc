#include "launcher/run/run_folder.h"

#include "tests/runtime/base/test_util.h"

namespace belay::launcher {
namespace {

using base::Exists;
using base::PosixFileSystem;

class RunFolderTest : public testing::Test {
 protected:
  base::Result<RunFolder> Make(base::Duration later = {}) {
    return RunFolder::Make(files_, scratch_.path(), base::SystemClock().WallNow() + later);
  }
  // As a run leaves it that was killed: with the lock's file, which nobody holds.
  std::string DeadFolder(bool with_lock) {
    const std::string folder = scratch_ / "r-00000000000000ab";
    EXPECT_OK(files_.MakeDirectory(folder, 0700));
    if (with_lock) EXPECT_OK(base::WriteFileDurably(files_, folder + "/lock", ""));
    EXPECT_OK(files_.MakeDirectory(folder + "/a1", 0700));
    return folder;
  }

  base::FileSystem& files_ = PosixFileSystem();
  base::ScratchFolder scratch_;
};

TEST_F(RunFolderTest, IsGoneWithItsRun) {
  std::string path;
  {
    const auto folder = Make();
    ASSERT_OK(folder);
    path = folder->path();
    EXPECT_TRUE(Exists(files_, path));
    ASSERT_OK(files_.MakeDirectory(path + "/a1", 0700));
  }
  EXPECT_FALSE(Exists(files_, path));
}

TEST_F(RunFolderTest, ADeadRunsFolderAndItsSharedMemoryAreSwept) {
  const std::string dead = DeadFolder(true);
  const std::string memory = MemoryFolder(dead, 2);
  ASSERT_OK(files_.MakeDirectory(memory, 0700));
  const auto folder = Make();
  ASSERT_OK(folder);
  EXPECT_FALSE(Exists(files_, dead));
  EXPECT_FALSE(Exists(files_, memory));
}

TEST_F(RunFolderTest, ALivingRunsFolderIsLeftAlone) {
  const auto living = Make();
  ASSERT_OK(living);
  const auto other = Make(std::chrono::hours(24));
  ASSERT_OK(other);
  EXPECT_TRUE(Exists(files_, living->path()));
  EXPECT_NE(living->path(), other->path());
}

TEST_F(RunFolderTest, AFolderThatIsBeingMadeIsLeftAloneAMinute) {
  const std::string young = DeadFolder(false);
  ASSERT_OK(Make());
  EXPECT_TRUE(Exists(files_, young));
  ASSERT_OK(Make(std::chrono::minutes(2)));
  EXPECT_FALSE(Exists(files_, young));
}

TEST_F(RunFolderTest, WhatOnlyLooksLikeARunIsLeftAlone) {
  // Not 16 digits, not hex, not lower case: somebody else's, however old and unlocked.
  const std::vector<std::string> others = {"r-notes", "r-00000000000000a", "r-00000000000000abc", "r-00000000000000AB",
                                           "r-00000000000000ag"};
  for (const std::string& name : others) ASSERT_OK(files_.MakeDirectory(scratch_ / name, 0700));
  ASSERT_OK(Make(std::chrono::hours(24)));
  for (const std::string& name : others) EXPECT_TRUE(Exists(files_, scratch_ / name)) << name;
}

TEST_F(RunFolderTest, AFolderThatCannotBeMadeIsAnError) {
  EXPECT_CODE(RunFolder::Make(files_, scratch_ / "none", base::SystemClock().WallNow()), kNotFound);
}

}  // namespace
}  // namespace belay::launcher
