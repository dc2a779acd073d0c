// Bulk files of the machine: which way they go, and that engines behave at the edges.
#include "runtime/base/posix/posix_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include <cstdlib>

#include "runtime/base/posix/posix_file_system.h"
#include "runtime/base/units.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

using Mode = OpenOptions::Mode;

TEST(BulkWriterNameTest, TmpfsGoesThroughThePageCache) { EXPECT_EQ(BulkWriterName("/dev/shm"), "buffered"); }

TEST(BulkWriterNameTest, NamesAWayAndLeavesNothingBehind) {
  ScratchFolder folder;
  EXPECT_THAT((std::vector<std::string_view>{"io_uring", "direct", "buffered"}),
              testing::Contains(BulkWriterName(folder.path())));
  EXPECT_TRUE(PosixFileSystem().List(folder.path())->empty());
  EXPECT_EQ(BulkWriterName(folder / "nowhere"), "buffered");
}

TEST(PosixFileTest, ATransferThatRunsOutOfRoomSaysSo) {
  ScratchFolder folder;
  // A file size limit gives EFBIG at a chosen place, in the middle of many blocks in flight.
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit small = before;
  small.rlim_cur = 10 * kMiB;
  for (const BulkMethod method : {BulkMethod::kIoUring, BulkMethod::kDirect, BulkMethod::kBuffered}) {
    SCOPED_TRACE(BulkMethodName(method));
    auto files = MakePosixFileSystem(method);
    auto file = files->Open(folder / "f", {.mode = Mode::kCreateOrTruncate, .bulk = true});
    ASSERT_OK(file);
    AlignedMemory memory(static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, 80 * kMiB)));
    std::fill_n(memory.get(), 80 * kMiB, std::byte{1});
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
    const Status written = (*file)->WriteAt(0, std::span(memory.get(), 80 * kMiB));
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
    EXPECT_CODE(written, kIo);
    // The engine is usable after an error.
    EXPECT_OK((*file)->WriteAt(0, std::span(memory.get(), 9 * kMiB)));
    EXPECT_OK((*file)->Sync());
  }
}

TEST(PosixFileTest, TwoBulkFilesAtOnceDoNotDisturbEachOther) {
  ScratchFolder folder;
  auto a = PosixFileSystem().Open(folder / "a", {.mode = Mode::kCreateExclusive, .bulk = true});
  auto b = PosixFileSystem().Open(folder / "b", {.mode = Mode::kCreateExclusive, .bulk = true});
  const std::string as(3 * kMiB, 'a');
  const std::string bs(3 * kMiB, 'b');
  EXPECT_OK((*a)->WriteAt(0, Bytes(as)));
  EXPECT_OK((*b)->WriteAt(0, Bytes(bs)));
  EXPECT_OK((*a)->WriteAt(3 * kMiB, Bytes(as)));
  EXPECT_EQ(*ReadWholeFile(PosixFileSystem(), folder / "a", kGiB), as + as);
  EXPECT_EQ(*ReadWholeFile(PosixFileSystem(), folder / "b", kGiB), bs);
}

TEST(PosixFileTest, BulkFilesHaveTheShapeOfTheirDevice) {
  ScratchFolder folder;
  const auto files = MakePosixFileSystem(BulkMethod::kIoUring);
  const auto shape_of = [&](const OpenOptions& options) {
    auto file = files->Open(folder.path(), options);
    EXPECT_OK(file);
    return static_cast<PosixFile&>(**file).shape();
  };
  const BulkShape set{kMiB, 8}, asked{8 * kMiB, 2};
  EXPECT_EQ(shape_of({.mode = Mode::kNameless, .bulk = true}), BulkShape());
  const std::uint64_t device = files->Stat(folder.path())->device;
  files->SetBulkShape(device + 1, asked);
  files->SetBulkShape(device, set);
  EXPECT_EQ(shape_of({.mode = Mode::kNameless, .bulk = true}), set);
  EXPECT_EQ(shape_of({.mode = Mode::kNameless, .bulk = true, .shape = asked}), asked);
}

TEST(PosixFileTest, ClosedFilesGiveTheirDescriptorsBack) {
  ScratchFolder folder;
  const auto open_now = [] { return PosixFileSystem().List("/proc/self/fd")->size(); };
  const std::size_t before = open_now();
  for (int i = 0; i < 20; ++i) {
    auto file = PosixFileSystem().Open(folder / "f", {.mode = Mode::kCreateOrTruncate, .bulk = true});
    EXPECT_OK((*file)->WriteAt(0, Bytes("x")));
    if (i % 2 == 0) EXPECT_OK((*file)->Close());
  }
  EXPECT_EQ(open_now(), before);
}

}  // namespace
}  // namespace belay::base
