// The functions built from a FileSystem, the lock, and what is special about real files.
#include "runtime/base/file_system.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/fault/faulty_file_system.h"
#include "runtime/base/sim/mem_file_system.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

TEST(ParentPathTest, CutsTheLastName) {
  EXPECT_EQ(ParentPath("/a/b"), "/a");
  EXPECT_EQ(ParentPath("/a"), "/");
  EXPECT_EQ(ParentPath("a"), ".");
}

TEST(MakeDirectoriesTest, EveryNewNameIsDurable) {
  MemFileSystem files;
  ASSERT_OK(MakeDirectories(files, "/a/b/c"));
  files.Crash();
  EXPECT_TRUE(Exists(files, "/a/b/c"));
}

TEST(MakeDirectoriesTest, ANameThatCannotBeMadeDurableDoesNotStay) {
  MemFileSystem memory;
  FaultyFileSystem files(memory);
  files.Add({.operation = FileOperation::kSyncDirectory, .skip = 1});
  EXPECT_FALSE(MakeDirectories(files, "/a/b/c").has_value());
  ASSERT_OK(MakeDirectories(files, "/a/b/c"));  // which takes what is there for durable
  memory.Crash();
  EXPECT_TRUE(Exists(memory, "/a/b/c"));
}

TEST(WriteFileDurablyTest, OldOrNewAfterACrashAtEveryOperation) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    for (const FileOperation operation :
         {FileOperation::kOpen, FileOperation::kWrite, FileOperation::kSync, FileOperation::kClose,
          FileOperation::kRename, FileOperation::kSyncDirectory}) {
      SCOPED_TRACE(Str("seed ", seed, " operation ", static_cast<int>(operation)));
      MemFileSystem memory;
      ASSERT_OK(WriteFileDurably(memory, "/f", "old"));
      FaultyFileSystem files(memory);
      files.Add({.operation = operation});
      ASSERT_FALSE(WriteFileDurably(files, "/f", "new").has_value());
      memory.Crash(seed);
      const auto content = ReadWholeFile(memory, "/f", 100);
      ASSERT_OK(content);
      EXPECT_TRUE(*content == "old" || *content == "new") << *content;
    }
  }
}

TEST(WriteFileDurablyTest, SurvivesACrashRightAfterIt) {
  MemFileSystem memory;
  ASSERT_OK(WriteFileDurably(memory, "/f", "new"));
  memory.Crash();
  EXPECT_EQ(*ReadWholeFile(memory, "/f", 100), "new");
}

TEST(ReadWholeFileTest, ReadsFilesThatDoNotTellTheirSize) {
  const auto status = ReadWholeFile(PosixFileSystem(), "/proc/self/status", 1 << 20);
  ASSERT_OK(status);
  EXPECT_THAT(*status, testing::HasSubstr("\nPid:\t"));
  EXPECT_CODE(ReadWholeFile(PosixFileSystem(), "/dev/zero", 100000), kLimitExceeded);
}

TEST(RemoveTreeTest, DoesNotFollowSymbolicLinks) {
  ScratchFolder folder;
  FileSystem& files = PosixFileSystem();
  ASSERT_OK(MakeDirectories(files, folder / "precious"));
  ASSERT_OK(WriteFileDurably(files, folder / "precious/file", "keep"));
  ASSERT_OK(MakeDirectories(files, folder / "doomed/sub"));
  ASSERT_OK(WriteFileDurably(files, folder / "doomed/sub/file", "lose"));
  ASSERT_EQ(::symlink((folder / "precious").c_str(), (folder / "doomed/link").c_str()), 0);
  EXPECT_OK(RemoveTree(files, folder / "doomed"));
  EXPECT_FALSE(Exists(files, folder / "doomed"));
  EXPECT_EQ(*ReadWholeFile(files, folder / "precious/file", 100), "keep");
}

TEST(FileLockTest, OneHolderAtATime) {
  ScratchFolder folder;
  auto first = FileLock::TryAcquire(folder / "lock");
  ASSERT_OK(first);
  ASSERT_TRUE(first->has_value());
  EXPECT_FALSE(FileLock::TryAcquire(folder / "lock")->has_value());
  first->reset();
  EXPECT_TRUE(FileLock::TryAcquire(folder / "lock")->has_value());
  EXPECT_CODE(FileLock::TryAcquire(folder / "no/lock"), kNotFound);
}

TEST(FileLockTest, GoesOnInWhoeverIsHandedItsDescriptor) {
  ScratchFolder folder;
  const std::string path = folder / "lock";
  auto first = FileLock::TryAcquire(path);
  ASSERT_TRUE(first && *first);
  UniqueFd copy(::fcntl((*first)->Descriptor(), F_DUPFD_CLOEXEC, 3));
  auto second = FileLock::TakeUp(std::move(copy), path);
  ASSERT_OK(second);
  first->reset();
  EXPECT_FALSE(FileLock::TryAcquire(path)->has_value());

  EXPECT_CODE(FileLock::TakeUp(UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC)), path), kAlreadyExists);
  EXPECT_CODE(FileLock::TakeUp(UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC)), path), kAlreadyExists)
      << "the file, but not the one that holds it";
}

TEST(PosixFileSystemTest, FilesAreTheOwnersOnly) {
  ScratchFolder folder;
  ASSERT_OK(WriteFileDurably(PosixFileSystem(), folder / "f", "x"));
  const auto info = PosixFileSystem().Stat(folder / "f");
  EXPECT_EQ(info->permissions, 0600U);
  EXPECT_EQ(info->owner_uid, ::geteuid());
  EXPECT_GT(info->modified_unix_ns, 1'000'000'000LL * 1'600'000'000);
}

TEST(PosixFileSystemTest, ALinkIsToldFromWhatItLeadsTo) {
  ScratchFolder folder;
  FileSystem& files = PosixFileSystem();
  ASSERT_EQ(::symlink(folder.path().c_str(), (folder / "link").c_str()), 0);
  EXPECT_FALSE(files.Stat(folder.path())->is_link);
  EXPECT_TRUE(files.Stat(folder / "link")->is_link);
  EXPECT_TRUE(files.Stat(folder / "link")->is_directory);
  EXPECT_FALSE(files.Stat(folder / "link/.")->is_link);
  ASSERT_EQ(::symlink((folder / "nowhere").c_str(), (folder / "dangling").c_str()), 0);
  EXPECT_CODE(files.Stat(folder / "dangling"), kNotFound);
}

}  // namespace
}  // namespace belay::base
