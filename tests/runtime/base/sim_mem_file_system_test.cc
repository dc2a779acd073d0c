// What a crash leaves in the file system in memory.
#include "runtime/base/sim/mem_file_system.h"

#include <set>

#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

using Mode = OpenOptions::Mode;
using testing::ElementsAre;
using testing::IsEmpty;

class MemFileSystemTest : public testing::Test {
 protected:
  std::unique_ptr<File> Make(const std::string& path) { return *files_.Open(path, {.mode = Mode::kCreateOrTruncate}); }
  void WriteSynced(const std::string& path, std::string_view content) {
    auto file = Make(path);
    EXPECT_OK(file->WriteAt(0, Bytes(content)));
    EXPECT_OK(file->Sync());
  }
  std::string Read(const std::string& path) { return ReadWholeFile(files_, path, 1 << 30).value_or("missing"); }

  MemFileSystem files_;
};

TEST_F(MemFileSystemTest, ASyncedFileWithoutASyncedNameIsGone) {
  WriteSynced("/f", "x");
  files_.Crash();
  EXPECT_THAT(*files_.List("/"), IsEmpty());
}

TEST_F(MemFileSystemTest, ASyncedNameWithoutSyncedBytesIsEmpty) {
  EXPECT_OK(Make("/f")->WriteAt(0, Bytes("x")));
  EXPECT_OK(files_.SyncDirectory("/"));
  files_.Crash();
  EXPECT_EQ(Read("/f"), "");
}

TEST_F(MemFileSystemTest, OverwritingFallsBackToTheSyncedBytes) {
  WriteSynced("/f", "old");
  EXPECT_OK(files_.SyncDirectory("/"));
  EXPECT_OK(Make("/f")->WriteAt(0, Bytes("newer")));
  EXPECT_EQ(Read("/f"), "newer");
  files_.Crash();
  EXPECT_EQ(Read("/f"), "old");
}

TEST_F(MemFileSystemTest, AnUnsyncedRenameOrRemoveIsUndoneWhole) {
  WriteSynced("/a", "A");
  WriteSynced("/b", "B");
  WriteSynced("/c", "C");
  EXPECT_OK(files_.SyncDirectory("/"));
  EXPECT_OK(files_.Rename("/a", "/b"));
  EXPECT_OK(files_.Remove("/c"));
  EXPECT_THAT(*files_.List("/"), ElementsAre("b"));
  files_.Crash();
  EXPECT_EQ(Read("/a") + Read("/b") + Read("/c"), "ABC");
}

TEST_F(MemFileSystemTest, SyncingOneFolderOfARenameIsEnoughForBoth) {
  ASSERT_OK(MakeDirectories(files_, "/x"));
  ASSERT_OK(MakeDirectories(files_, "/y"));
  WriteSynced("/x/f", "1");
  EXPECT_OK(files_.Rename("/x/f", "/y/f"));
  EXPECT_OK(files_.SyncDirectory("/y"));
  files_.Crash();
  EXPECT_THAT(*files_.List("/x"), IsEmpty());
  EXPECT_EQ(Read("/y/f"), "1");
}

TEST_F(MemFileSystemTest, EverySeedKeepsWhatWasDurableAndInventsNothing) {
  std::set<std::string> outcomes;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE(Str("seed ", seed));
    MemFileSystem files;
    ASSERT_OK(WriteFileDurably(files, "/kept", "kept"));
    ASSERT_OK(WriteFileDurably(files, "/moved", "m"));
    {
      auto file = *files.Open("/new", {.mode = Mode::kCreateExclusive});
      EXPECT_OK(file->WriteAt(0, Bytes("n")));
      EXPECT_OK(file->Sync());
    }
    EXPECT_OK(files.Rename("/moved", "/there"));
    files.Crash(seed);
    const auto names = *files.List("/");
    EXPECT_EQ(*ReadWholeFile(files, "/kept", 10), "kept");
    EXPECT_NE(Exists(files, "/moved"), Exists(files, "/there")) << "a rename is whole";
    if (Exists(files, "/new")) {
      EXPECT_EQ(*ReadWholeFile(files, "/new", 10), "n");
    }
    std::string outcome;
    for (const std::string& name : names) outcome += name + " ";
    outcomes.insert(outcome);
  }
  EXPECT_EQ(outcomes.size(), 4U) << "both changes kept and lost, each on its own";
}

TEST_F(MemFileSystemTest, UnsyncedPagesSurviveInParts) {
  constexpr std::size_t kPages = 16;
  bool torn = false;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    MemFileSystem files;
    ASSERT_OK(WriteFileDurably(files, "/f", std::string(kPages * 4096, 'o')));
    auto file = *files.Open("/f", {.mode = Mode::kReadWrite});
    EXPECT_OK(file->WriteAt(0, Bytes(std::string(kPages * 4096, 'n'))));
    files.Crash(seed);
    const std::string content = *ReadWholeFile(files, "/f", 1 << 20);
    ASSERT_EQ(content.size(), kPages * 4096);
    EXPECT_EQ(content.find_first_not_of("on"), std::string::npos);
    torn = torn || (content.find('o') != std::string::npos && content.find('n') != std::string::npos);
  }
  EXPECT_TRUE(torn);
}

TEST_F(MemFileSystemTest, TheSameSeedLeavesTheSame) {
  const auto run = [](std::uint64_t seed) {
    MemFileSystem files;
    for (int i = 0; i < 30; ++i) {
      auto file = *files.Open(Str("/", i), {.mode = Mode::kCreateExclusive});
      IgnoreError(file->WriteAt(0, Bytes("x")), "memory");
    }
    files.Crash(seed);
    return *files.List("/");
  };
  EXPECT_EQ(run(5), run(5));
  EXPECT_NE(run(5), run(6));
}

TEST_F(MemFileSystemTest, FilesOpenedBeforeACrashAreDead) {
  auto file = Make("/f");
  files_.Crash();
  EXPECT_CODE(file->WriteAt(0, Bytes("x")), kIo);
  EXPECT_CODE(file->Sync(), kIo);
  EXPECT_OK(file->Close());
  EXPECT_CODE(file->Size(), kIo);
}

TEST_F(MemFileSystemTest, FillsUpAndEmpties) {
  files_.SetCapacity(10);
  auto file = Make("/f");
  EXPECT_OK(file->WriteAt(0, Bytes("12345678")));
  EXPECT_EQ(files_.Space("/")->available_bytes, 2U);
  EXPECT_CODE(file->WriteAt(8, Bytes("901")), kNoSpace);
  EXPECT_CODE(file->Preallocate(11), kNoSpace);
  EXPECT_OK(file->WriteAt(0, Bytes("overwrite")));
  EXPECT_OK(files_.Remove("/f"));
  EXPECT_EQ(files_.Space("/")->available_bytes, 1U) << "still open";
  EXPECT_OK(file->Close());
  EXPECT_EQ(files_.Space("/")->available_bytes, 10U);
  EXPECT_OK(Make("/g")->WriteAt(0, Bytes("1234567890")));
  files_.Crash();
  EXPECT_EQ(files_.Space("/")->available_bytes, 10U);
}

TEST_F(MemFileSystemTest, ReadOnlyReadsOnly) {
  WriteSynced("/f", "x");
  auto open = *files_.Open("/f", {.mode = Mode::kReadWrite});
  files_.SetReadOnly(true);
  EXPECT_CODE(files_.Open("/g", {.mode = Mode::kCreateExclusive}), kReadOnly);
  EXPECT_CODE(open->WriteAt(0, Bytes("y")), kReadOnly);
  EXPECT_CODE(files_.Remove("/f"), kReadOnly);
  EXPECT_CODE(files_.MakeDirectory("/d", 0700), kReadOnly);
  EXPECT_EQ(Read("/f"), "x");
}

TEST_F(MemFileSystemTest, HasNoDescriptors) { EXPECT_EQ(Make("/f")->Descriptor(), -1); }

}  // namespace
}  // namespace belay::base
