#include "runtime/base/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "runtime/base/units.h"
#include "tests/runtime/base/test_util.h"
#include "tests/runtime/base/thread_famine.h"

namespace belay::base {
namespace {

TEST(SharedMemoryTest, TwoMappingsAreTheSameMemory) {
  const auto fd = CreateSharedMemory({.name = "test", .size_bytes = 10000});
  ASSERT_OK(fd);
  auto a = MapSharedMemory(fd->get(), 10000, MapAccess::kReadWrite);
  auto b = MapSharedMemory(fd->get(), 10000, MapAccess::kRead);
  ASSERT_OK(a);
  ASSERT_OK(b);
  EXPECT_EQ(a->bytes().size(), 10000U);
  a->bytes()[9999] = std::byte{7};
  EXPECT_EQ(b->bytes()[9999], std::byte{7});
  EXPECT_EQ(b->bytes()[0], std::byte{0});
}

TEST(SharedMemoryTest, NobodyCanChangeItsSize) {
  const auto fd = CreateSharedMemory({.name = "test", .size_bytes = 10000});
  EXPECT_EQ(*SealedSize(fd->get()), 12288U);
  EXPECT_NE(::ftruncate(fd->get(), 100), 0);
  EXPECT_NE(::ftruncate(fd->get(), 100000), 0);
  EXPECT_NE(::fcntl(fd->get(), F_ADD_SEALS, F_SEAL_WRITE), 0) << "a peer cannot seal our own writes either";
}

TEST(SharedMemoryTest, OnlySealedMemoryHasASealedSize) {
  const UniqueFd open(::memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_CODE(SealedSize(open.get()), kInvalidArgument);
  const UniqueFd file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  EXPECT_CODE(SealedSize(file.get()), kInvalidArgument);
  EXPECT_CODE(SealedSize(-1), kInvalidArgument);
}

TEST(SharedMemoryTest, WhatIsFrozenIsReadAndNeverChanges) {
  const std::string content("a\0b", 3);
  const auto fd = FreezeInMemory("test", content);
  ASSERT_OK(fd);
  EXPECT_EQ(*ReadFrozenMemory(fd->get(), 3), content);
  EXPECT_CODE(ReadFrozenMemory(fd->get(), 2), kLimitExceeded);
  EXPECT_LT(::pwrite(fd->get(), "x", 1, 0), 0);
  EXPECT_NE(::ftruncate(fd->get(), 10), 0);
  EXPECT_EQ(*ReadFrozenMemory(FreezeInMemory("empty", "")->get(), 0), "");
  const auto writable = CreateSharedMemory({.name = "test", .size_bytes = 4096});
  EXPECT_CODE(ReadFrozenMemory(writable->get(), 4096), kInvalidArgument);
  EXPECT_CODE(ReadFrozenMemory(-1, 10), kInvalidArgument);
}

TEST(SharedMemoryTest, RefusesToMapMoreThanThereIs) {
  const auto fd = CreateSharedMemory({.name = "test", .size_bytes = 4096});
  EXPECT_CODE(MapSharedMemory(fd->get(), 4097, MapAccess::kRead), kInvalidArgument);
  EXPECT_CODE(MapSharedMemory(fd->get(), 0, MapAccess::kRead), kInvalidArgument);
  EXPECT_CODE(CreateSharedMemory({.name = "test", .size_bytes = 0}), kInvalidArgument);
}

TEST(SharedMemoryTest, AReadOnlyDescriptorCannotWrite) {
  const auto fd = CreateSharedMemory({.name = "test", .size_bytes = 4096});
  const auto reader = ReopenReadOnly(fd->get());
  ASSERT_OK(reader);
  EXPECT_OK(MapSharedMemory(reader->get(), 4096, MapAccess::kRead));
  EXPECT_CODE(MapSharedMemory(reader->get(), 4096, MapAccess::kReadWrite), kPermissionDenied);
  EXPECT_EQ(::write(reader->get(), "x", 1), -1);
}

TEST(SharedMemoryTest, HugePagesAreAWishNotADemand) {
  const auto fd = CreateSharedMemory({.name = "test", .size_bytes = 3 * kMiB, .huge_pages = true});
  ASSERT_OK(fd);
  auto mapping = MapSharedMemory(fd->get(), 3 * kMiB, MapAccess::kReadWrite);
  ASSERT_OK(mapping);
  EXPECT_OK(TouchPages(mapping->bytes(), 2));
  EXPECT_GE(*SealedSize(fd->get()), 3 * kMiB);
}

// Counts the mappings of this process that are of memory made under `name`.
std::size_t MappingsOf(const std::string& name) {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) count += line.find(name) != std::string::npos ? 1 : 0;
  return count;
}

TEST(SharedMemoryTest, APartOfAMemoryIsUnmappedWhole) {
  for (const bool huge_pages : {false, true}) {
    const auto fd = CreateSharedMemory({.name = "unmapped-whole", .size_bytes = 5 * kMiB, .huge_pages = huge_pages});
    ASSERT_OK(fd);
    for (const std::uint64_t bytes : {std::uint64_t{1}, std::uint64_t{4096}, 2 * kMiB + 4096, 3 * kMiB + 1}) {
      const auto mapping = MapSharedMemory(fd->get(), bytes, MapAccess::kRead);
      ASSERT_OK(mapping);
      EXPECT_EQ(mapping->bytes().size(), bytes);
      EXPECT_EQ(MappingsOf("unmapped-whole"), 1U);
    }
    EXPECT_EQ(MappingsOf("unmapped-whole"), 0U);
  }
}

[[noreturn]] void TouchWithoutHelpers() {
  auto fd = CreateSharedMemory({.name = "test", .size_bytes = 8 << 20});
  auto mapping = MapSharedMemory(fd->get(), 8 << 20, MapAccess::kReadWrite);
  if (!mapping || !StarveOfThreads()) ::_exit(1);
  if (!TouchPages(mapping->bytes(), 4)) ::_exit(2);
  std::vector<unsigned char> resident(mapping->bytes().size() / 4096);
  if (::mincore(mapping->bytes().data(), mapping->bytes().size(), resident.data()) != 0) ::_exit(3);
  const bool all = std::ranges::all_of(resident, [](unsigned char page) { return (page & 1) != 0; });
  ::_exit(all ? 0 : 4);
}

TEST(TouchPagesDeathTest, WithoutThreadsItDoesAllByItself) {
  if (!kThreadFamineIsSurvivable) GTEST_SKIP() << "a sanitizer does not outlive a lack of address space";
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(TouchWithoutHelpers(), testing::ExitedWithCode(0), "");
}

TEST(TouchPagesTest, MakesAllPagesResidentAndKeepsContent) {
  constexpr std::size_t kSize = 9 * kMiB + 5;
  const auto fd = CreateSharedMemory({.name = "test", .size_bytes = kSize});
  auto mapping = MapSharedMemory(fd->get(), kSize, MapAccess::kReadWrite);
  ASSERT_OK(mapping);
  mapping->bytes()[0] = std::byte{1};
  mapping->bytes()[5 * kMiB] = std::byte{2};
  for (const int threads : {0, 1, 3, 64}) EXPECT_OK(TouchPages(mapping->bytes(), threads));
  EXPECT_OK(TouchPages(mapping->bytes().subspan(3, 2), 2));
  EXPECT_OK(TouchPages({}, 2));
  EXPECT_EQ(mapping->bytes()[0], std::byte{1});
  EXPECT_EQ(mapping->bytes()[5 * kMiB], std::byte{2});
  std::vector<unsigned char> resident((kSize + 4095) / 4096);
  ASSERT_EQ(::mincore(mapping->bytes().data(), kSize, resident.data()), 0);
  EXPECT_TRUE(std::ranges::all_of(resident, [](unsigned char page) { return (page & 1) != 0; }));
}

TEST(MappingTest, MovesAndUnmapsOnce) {
  const auto fd = CreateSharedMemory({.name = "test", .size_bytes = 4096});
  Mapping a = *MapSharedMemory(fd->get(), 4096, MapAccess::kReadWrite);
  Mapping b = std::move(a);
  EXPECT_FALSE(a.valid());  // NOLINT: that is the question
  a = std::move(b);
  EXPECT_TRUE(a.valid());
  a.bytes()[0] = std::byte{1};
}

TEST(SharedControlPageTest, StartsUnknown) {
  const auto made = SharedControlPage::Create();
  ASSERT_OK(made);
  const ControlPage& page = made->page();
  EXPECT_EQ(page.committed_step, -1);
  EXPECT_EQ(page.resumed_step, -1);
  EXPECT_EQ(page.stop_requested, 0U);
  EXPECT_TRUE(std::isnan(BitsDouble(page.loss_bits)));
  EXPECT_TRUE(std::isnan(BitsDouble(page.stall_ms_bits)));
  EXPECT_TRUE(std::isnan(BitsDouble(page.data_wait_ms_bits)));
}

TEST(SharedControlPageTest, BothSidesSeeEachOther) {
  const auto made = SharedControlPage::Create();
  const auto mapped = SharedControlPage::Map(made->descriptor());
  ASSERT_OK(mapped);
  made->page().stop_requested = 1;
  mapped->page().step = 12;
  EXPECT_EQ(mapped->page().stop_requested, 1U);
  EXPECT_EQ(made->page().step, 12);
}

TEST(SharedControlPageTest, RefusesWhatIsNone) {
  const auto zeros = CreateSharedMemory({.name = "test", .size_bytes = 4096});
  EXPECT_CODE(SharedControlPage::Map(zeros->get()), kProtocol);
  EXPECT_CODE(SharedControlPage::Map(-1), kProtocol);
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_CODE(SharedControlPage::Map(null.get()), kProtocol);
  const auto made = SharedControlPage::Create();
  made->page().version = 2;
  EXPECT_CODE(SharedControlPage::Map(made->descriptor()), kProtocolVersion);
}

}  // namespace
}  // namespace belay::base
