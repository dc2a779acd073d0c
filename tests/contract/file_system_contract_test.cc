// What every FileSystem promises (runtime/base/file_system.h): the machine's, three ways of bulk, and the one in
// memory.
#include <vector>

#include "runtime/base/posix/posix_file_system.h"
#include "runtime/base/rng.h"
#include "runtime/base/sim/mem_file_system.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

using Mode = OpenOptions::Mode;
using testing::ElementsAre;

struct Memory {
  MemFileSystem system;
  FileSystem& files() { return system; }
  std::string root() {
    if (!Exists(system, "/scratch")) EXPECT_OK(system.MakeDirectory("/scratch", 0700));
    return "/scratch";
  }
};

struct OnDisk {
  ScratchFolder folder;
  FileSystem& files() { return PosixFileSystem(); }
  std::string root() { return folder.path(); }
};

struct OnTmpfs {
  ScratchFolder folder{"/dev/shm"};
  FileSystem& files() { return PosixFileSystem(); }
  std::string root() { return folder.path(); }
};

template <BulkMethod kMethod>
struct OnDiskBy {
  ScratchFolder folder;
  std::unique_ptr<FileSystem> system = MakePosixFileSystem(kMethod);
  FileSystem& files() { return *system; }
  std::string root() { return folder.path(); }
};

template <typename Place>
class FileSystemContract : public testing::Test {
 protected:
  std::unique_ptr<File> Open(const std::string& name, Mode mode, bool bulk = false) {
    auto file = files().Open(Path(name), {.mode = mode, .bulk = bulk});
    EXPECT_TRUE(file.has_value()) << file.error().Text();
    return file ? *std::move(file) : nullptr;
  }
  void Write(const std::string& name, std::string_view content) {
    auto file = Open(name, Mode::kCreateOrTruncate);
    ASSERT_NE(file, nullptr);
    EXPECT_OK(file->WriteAt(0, Bytes(content)));
    EXPECT_OK(file->Close());
  }
  std::string Read(const std::string& name) {
    auto content = ReadWholeFile(files(), Path(name), 1 << 30);
    EXPECT_TRUE(content.has_value()) << content.error().Text();
    return content.value_or("");
  }
  std::string Path(const std::string& name) { return place_.root() + "/" + name; }
  FileSystem& files() { return place_.files(); }

  Place place_;
};

using Places = testing::Types<Memory, OnDisk, OnTmpfs, OnDiskBy<BulkMethod::kDirect>, OnDiskBy<BulkMethod::kBuffered>>;
TYPED_TEST_SUITE(FileSystemContract, Places);

TYPED_TEST(FileSystemContract, ReadsBackWhatWasWritten) {
  this->Write("a", "hello");
  EXPECT_EQ(this->Read("a"), "hello");
  auto file = this->Open("a", Mode::kRead);
  char middle[3];
  EXPECT_EQ(*file->ReadAt(1, std::as_writable_bytes(std::span(middle))), 3U);
  EXPECT_EQ(std::string_view(middle, 3), "ell");
}

TYPED_TEST(FileSystemContract, ReadStopsAtTheEnd) {
  this->Write("a", "hello");
  auto file = this->Open("a", Mode::kRead);
  char room[100];
  EXPECT_EQ(*file->ReadAt(3, std::as_writable_bytes(std::span(room))), 2U);
  EXPECT_EQ(*file->ReadAt(5, std::as_writable_bytes(std::span(room))), 0U);
  EXPECT_EQ(*file->ReadAt(5000, std::as_writable_bytes(std::span(room))), 0U);
}

TYPED_TEST(FileSystemContract, AGapReadsAsZeros) {
  auto file = this->Open("a", Mode::kCreateExclusive);
  EXPECT_OK(file->WriteAt(3, Bytes("x")));
  EXPECT_EQ(this->Read("a"), std::string("\0\0\0x", 4));
}

TYPED_TEST(FileSystemContract, OpenModesKeepTheirPromises) {
  EXPECT_CODE(this->files().Open(this->Path("none"), {}), kNotFound);
  EXPECT_CODE(this->files().Open(this->Path("none"), {.mode = Mode::kReadWrite}), kNotFound);
  this->Write("a", "hello");
  EXPECT_CODE(this->files().Open(this->Path("a"), {.mode = Mode::kCreateExclusive}), kAlreadyExists);
  EXPECT_OK(this->Open("a", Mode::kReadWrite)->WriteAt(0, Bytes("J")));
  EXPECT_EQ(this->Read("a"), "Jello");
  EXPECT_OK(this->Open("a", Mode::kAppend)->WriteAt(0, Bytes("!")));
  EXPECT_EQ(this->Read("a"), "Jello!");
  EXPECT_OK(this->Open("log", Mode::kAppend)->WriteAt(7, Bytes("first")));
  EXPECT_EQ(this->Read("log"), "first");
  EXPECT_EQ(*this->Open("a", Mode::kCreateOrTruncate)->Size(), 0U);
}

TYPED_TEST(FileSystemContract, ANamelessFileIsSeenByNobodyElse) {
  EXPECT_CODE(this->files().Open(this->Path("none"), {.mode = Mode::kNameless}), kNotFound);
  EXPECT_OK(this->files().MakeDirectory(this->Path("d"), 0700));
  for (const bool bulk : {false, true}) {
    auto file = this->Open("d", Mode::kNameless, bulk);
    ASSERT_NE(file, nullptr);
    EXPECT_OK(file->WriteAt(0, Bytes("hello")));
    EXPECT_OK(file->Sync());
    std::vector<std::byte> read(9);
    EXPECT_EQ(*file->ReadAt(0, read), 5U);
    EXPECT_TRUE(this->files().List(this->Path("d"))->empty());
  }
  EXPECT_OK(this->files().RemoveDirectory(this->Path("d")));
}

TYPED_TEST(FileSystemContract, AFileOpenedForReadingCannotBeWritten) {
  this->Write("a", "hello");
  EXPECT_CODE(this->Open("a", Mode::kRead)->WriteAt(0, Bytes("x")), kIo);
  EXPECT_EQ(this->Read("a"), "hello");
}

TYPED_TEST(FileSystemContract, AFolderIsNoFile) {
  EXPECT_OK(this->files().MakeDirectory(this->Path("d"), 0700));
  EXPECT_CODE(ReadWholeFile(this->files(), this->Path("d"), 1 << 20), kIo);
  EXPECT_CODE(this->files().Open(this->Path("d"), {.mode = Mode::kCreateOrTruncate}), kIo);
  EXPECT_CODE(this->files().Remove(this->Path("d")), kIo);
}

TYPED_TEST(FileSystemContract, ErrorsNameThePath) {
  const auto missing = this->files().Open(this->Path("missing-file"), {});
  ASSERT_FALSE(missing.has_value());
  EXPECT_THAT(missing.error().message, testing::HasSubstr(this->Path("missing-file")));
}

TYPED_TEST(FileSystemContract, PreallocateMakesRoomOfZeros) {
  auto file = this->Open("a", Mode::kCreateExclusive, true);
  EXPECT_OK(file->Preallocate(10000));
  EXPECT_EQ(*file->Size(), 10000U);
  EXPECT_OK(file->Preallocate(50));
  EXPECT_EQ(*file->Size(), 10000U);
  EXPECT_OK(file->WriteAt(0, Bytes("x")));
  EXPECT_OK(file->Truncate(3));
  EXPECT_EQ(this->Read("a"), std::string("x\0\0", 3));
}

TYPED_TEST(FileSystemContract, RenameReplacesAndLinksShare) {
  this->Write("a", "new");
  this->Write("b", "old");
  EXPECT_OK(this->files().Rename(this->Path("a"), this->Path("b")));
  EXPECT_EQ(this->Read("b"), "new");
  EXPECT_FALSE(Exists(this->files(), this->Path("a")));
  EXPECT_CODE(this->files().Rename(this->Path("a"), this->Path("b")), kNotFound);

  EXPECT_OK(this->files().Link(this->Path("b"), this->Path("c")));
  EXPECT_CODE(this->files().Link(this->Path("b"), this->Path("c")), kAlreadyExists);
  EXPECT_EQ(this->files().Stat(this->Path("b"))->inode, this->files().Stat(this->Path("c"))->inode);
  EXPECT_OK(this->files().Remove(this->Path("b")));
  EXPECT_EQ(this->Read("c"), "new");
  EXPECT_CODE(this->files().Remove(this->Path("b")), kNotFound);
}

TYPED_TEST(FileSystemContract, ARemovedFileLivesWhileItIsOpen) {
  this->Write("a", "hello");
  auto file = this->Open("a", Mode::kRead);
  EXPECT_OK(this->files().Remove(this->Path("a")));
  char room[5];
  EXPECT_EQ(*file->ReadAt(0, std::as_writable_bytes(std::span(room))), 5U);
  EXPECT_EQ(std::string_view(room, 5), "hello");
}

TYPED_TEST(FileSystemContract, FoldersListAndGo) {
  FileSystem& files = this->files();
  EXPECT_OK(files.MakeDirectory(this->Path("d"), 0700));
  EXPECT_CODE(files.MakeDirectory(this->Path("d"), 0700), kAlreadyExists);
  EXPECT_CODE(files.MakeDirectory(this->Path("x/y"), 0700), kNotFound);
  this->Write("d/z", "1");
  this->Write("d/a", "22");
  EXPECT_OK(files.SyncDirectory(this->Path("d")));
  EXPECT_THAT(*files.List(this->Path("d")), ElementsAre("a", "z"));
  EXPECT_CODE(files.List(this->Path("nowhere")), kNotFound);
  EXPECT_CODE(files.RemoveDirectory(this->Path("d")), kIo);
  EXPECT_EQ(files.Stat(this->Path("d/a"))->size_bytes, 2U);
  EXPECT_FALSE(files.Stat(this->Path("d/a"))->is_directory);
  EXPECT_TRUE(files.Stat(this->Path("d"))->is_directory);
  EXPECT_OK(files.Remove(this->Path("d/a")));
  EXPECT_OK(files.Remove(this->Path("d/z")));
  EXPECT_OK(files.RemoveDirectory(this->Path("d")));
  EXPECT_FALSE(Exists(files, this->Path("d")));
  EXPECT_CODE(files.RemoveDirectory(this->Path("d")), kNotFound);
  EXPECT_CODE(files.SyncDirectory(this->Path("d")), kNotFound);
}

TYPED_TEST(FileSystemContract, TellsItsSpace) {
  const auto space = this->files().Space(this->place_.root());
  ASSERT_OK(space);
  EXPECT_GT(space->total_bytes, 0U);
  EXPECT_LE(space->available_bytes, space->total_bytes);
}

TYPED_TEST(FileSystemContract, BuiltFromTheAboveDoTheirWork) {
  FileSystem& files = this->files();
  EXPECT_OK(MakeDirectories(files, this->Path("p/q/r")));
  EXPECT_OK(MakeDirectories(files, this->Path("p/q/r/")));
  EXPECT_OK(WriteFileDurably(files, this->Path("p/q/r/f"), "one"));
  EXPECT_OK(WriteFileDurably(files, this->Path("p/q/r/f"), "two"));
  EXPECT_THAT(*files.List(this->Path("p/q/r")), ElementsAre("f"));
  EXPECT_EQ(this->Read("p/q/r/f"), "two");
  EXPECT_CODE(ReadWholeFile(files, this->Path("p/q/r/f"), 2), kLimitExceeded);
  EXPECT_EQ(*ReadWholeFile(files, this->Path("p/q/r/f"), 3), "two");
  EXPECT_CODE(MakeDirectories(files, this->Path("p/q/r/f")), kAlreadyExists);
  EXPECT_OK(RemoveTree(files, this->Path("p")));
  EXPECT_FALSE(Exists(files, this->Path("p")));
  EXPECT_OK(RemoveTree(files, this->Path("p")));
}

// Any offset, size and address must come out right, whatever way the bytes go.
TYPED_TEST(FileSystemContract, BulkPiecesOfAnyAlignmentArriveWhole) {
  constexpr std::uint64_t kSeed = 20261122;
  SCOPED_TRACE(Str("seed ", kSeed));
  Rng rng(kSeed);
  constexpr std::size_t kSize = (9U << 20) + 777;
  std::vector<std::byte> expected(kSize);
  auto file = this->Open("bulk", Mode::kCreateExclusive, true);
  EXPECT_OK(file->Preallocate(kSize));
  std::vector<std::byte> source(kSize + 8192);
  for (std::byte& byte : source) byte = static_cast<std::byte>(rng.Next());
  for (int i = 0; i < 24; ++i) {
    const bool aligned = rng.Below(2) == 0;
    const std::size_t unit = aligned ? 4096 : 1;
    const std::size_t start = rng.Below(kSize) / unit * unit;
    const std::size_t size = i == 0 ? kSize - start : rng.Below(std::min<std::size_t>(kSize - start, 6U << 20) + 1);
    const std::size_t from = rng.Below(4096) / unit * unit;
    const std::span<const std::byte> piece(source.data() + from, size);
    ASSERT_OK(file->WriteAt(start, piece));
    std::ranges::copy(piece, expected.begin() + static_cast<std::ptrdiff_t>(start));
  }
  EXPECT_OK(file->Sync());
  EXPECT_OK(file->Close());

  auto again = this->Open("bulk", Mode::kRead, true);
  std::vector<std::byte> got(kSize + 4096);
  EXPECT_EQ(*again->ReadAt(0, got), kSize);
  got.resize(kSize);
  EXPECT_TRUE(got == expected);
  for (int i = 0; i < 24; ++i) {
    const std::size_t start = rng.Below(kSize + 5000);
    std::vector<std::byte> room(rng.Below(5U << 20));
    const std::size_t count = *again->ReadAt(start, room);
    ASSERT_EQ(count, std::min(room.size(), kSize - std::min(kSize, start)));
    ASSERT_TRUE(std::equal(room.begin(), room.begin() + static_cast<std::ptrdiff_t>(count),
                           expected.begin() + static_cast<std::ptrdiff_t>(std::min(kSize, start))));
  }
}

TYPED_TEST(FileSystemContract, ASymbolicLinkLeadsToWhereItSays) {
  this->Write("a", "hello");
  ASSERT_OK(this->files().LinkSymbolic(this->Path("a"), this->Path("link")));
  EXPECT_EQ(this->Read("link"), "hello");
  EXPECT_EQ(this->files().ReadLink(this->Path("link"))->value(), this->Path("a"));
  EXPECT_EQ(this->files().ReadLink(this->Path("a"))->has_value(), false);
  const auto info = this->files().Stat(this->Path("link"));
  ASSERT_OK(info);
  EXPECT_TRUE(info->is_link);
  EXPECT_EQ(info->size_bytes, 5U);
  EXPECT_EQ(info->inode, this->files().Stat(this->Path("a"))->inode);
  EXPECT_EQ(info->device, this->files().Stat(this->Path("a"))->device);
  EXPECT_EQ(this->files().LinkSymbolic(this->Path("a"), this->Path("link")).error().code, Code::kAlreadyExists);
}

TYPED_TEST(FileSystemContract, ASymbolicLinkIsRenamedAndRemovedWithoutWhatItLeadsTo) {
  this->Write("a", "hello");
  ASSERT_OK(this->files().LinkSymbolic(this->Path("a"), this->Path("link")));
  ASSERT_OK(this->files().Rename(this->Path("link"), this->Path("other")));
  EXPECT_EQ(this->files().ReadLink(this->Path("other"))->value(), this->Path("a"));
  ASSERT_OK(this->files().Remove(this->Path("other")));
  EXPECT_FALSE(Exists(this->files(), this->Path("other")));
  EXPECT_EQ(this->Read("a"), "hello");
}

TYPED_TEST(FileSystemContract, ASymbolicLinkMayLeadNowhere) {
  ASSERT_OK(this->files().LinkSymbolic(this->Path("none"), this->Path("link")));
  EXPECT_EQ(this->files().Stat(this->Path("link")).error().code, Code::kNotFound);
  EXPECT_EQ(this->files().Open(this->Path("link"), {}).error().code, Code::kNotFound);
  EXPECT_EQ(this->files().ReadLink(this->Path("link"))->value(), this->Path("none"));
  EXPECT_EQ(this->files().ReadLink(this->Path("nothing")).error().code, Code::kNotFound);
  EXPECT_THAT(*this->files().List(this->place_.root()), ElementsAre("link"));
  ASSERT_OK(RemoveTree(this->files(), this->Path("link")));
}

}  // namespace
}  // namespace belay::base
