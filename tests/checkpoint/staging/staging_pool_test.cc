#include "checkpoint/staging/staging_pool.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "runtime/base/fault_points.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {
namespace {

using base::Rank;

TEST(StagingPoolTest, TheTrainersBytesAreTheDaemonsBytes) {
  StagingPool pool(2);
  ASSERT_TRUE(pool.Allocate("default/gpt", Rank(0), 8192));
  const auto memory = pool.Find("default/gpt", Rank(0));
  ASSERT_NE(memory, nullptr);
  const auto fd = memory->Descriptor();
  ASSERT_TRUE(fd);
  const auto mapping = base::MapSharedMemory(fd->get(), 8192, base::MapAccess::kReadWrite);
  ASSERT_TRUE(mapping);
  mapping->bytes()[5000] = std::byte{42};
  EXPECT_EQ(memory->bytes()[5000], std::byte{42});
}

TEST(StagingPoolTest, TouchingDoesNotChangeWhatATrainerWritesMeanwhile) {
  StagingPool pool(2);
  constexpr std::uint64_t kBytes = 64 * base::kMiB;
  ASSERT_TRUE(pool.Allocate("default/gpt", Rank(0), kBytes));
  const auto memory = pool.Find("default/gpt", Rank(0));
  for (std::size_t at = 0; at < kBytes; at += 512) memory->bytes()[at] = static_cast<std::byte>(at / 512 % 251);
  pool.WaitTouched();
  for (std::size_t at = 0; at < kBytes; at += 512) {
    ASSERT_EQ(memory->bytes()[at], static_cast<std::byte>(at / 512 % 251)) << at;
  }
}

TEST(StagingPoolTest, ARestoresDescriptorCannotWrite) {
  StagingPool pool(1);
  ASSERT_TRUE(pool.Allocate("default/gpt", Rank(0), 4096));
  const auto fd = pool.Find("default/gpt", Rank(0))->ReadOnlyDescriptor();
  ASSERT_TRUE(fd);
  EXPECT_FALSE(base::MapSharedMemory(fd->get(), 4096, base::MapAccess::kReadWrite));
  EXPECT_TRUE(base::MapSharedMemory(fd->get(), 4096, base::MapAccess::kRead));
}

TEST(StagingPoolTest, FreedMemoryLivesWhileSomebodyHoldsIt) {
  StagingPool pool(1);
  ASSERT_TRUE(pool.Allocate("default/gpt", Rank(0), 4096));
  const auto memory = pool.Find("default/gpt", Rank(0));
  memory->bytes()[0] = std::byte{7};
  pool.Free("default/gpt", Rank(0));
  EXPECT_EQ(pool.Find("default/gpt", Rank(0)), nullptr);
  EXPECT_EQ(memory->bytes()[0], std::byte{7});
  ASSERT_TRUE(pool.Allocate("default/gpt", Rank(0), 4096));
  EXPECT_EQ(pool.Find("default/gpt", Rank(0))->bytes()[0], std::byte{0}) << "new memory is zeroed";
}

TEST(StagingPoolTest, OwnersAndRanksAreApart) {
  StagingPool pool(1);
  ASSERT_TRUE(pool.Allocate("default/a", Rank(0), 4096));
  ASSERT_TRUE(pool.Allocate("default/a", Rank(1), 8192));
  EXPECT_EQ(pool.Find("default/b", Rank(0)), nullptr);
  EXPECT_EQ(pool.Find("default/a", Rank(1))->bytes().size(), 8192U);
  EXPECT_EQ(pool.Find("default/a", Rank(0))->bytes().size(), 4096U);
}

TEST(StagingPoolTest, AFailureIsAnErrorAndLeavesNothing) {
  StagingPool pool(1);
  ASSERT_TRUE(base::ArmFaults("staging.allocate=nospace"));
  const base::Status made = pool.Allocate("default/gpt", Rank(0), 4096);
  base::DisarmFaults();
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, base::Code::kNoSpace);
  EXPECT_EQ(pool.Find("default/gpt", Rank(0)), nullptr);
}

}  // namespace
}  // namespace belay::checkpoint
