#include "checkpoint/staging/staging_pool.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <mutex>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "runtime/base/fault_points.h"
#include "runtime/base/host.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {
namespace {

using base::Rank;

// Two nodes on paper, 0 and 1; or a machine that refuses.
class PaperNuma final : public base::Numa {
 public:
  base::Status Prefer(std::span<std::byte> mapping, std::int32_t node) override {
    const std::scoped_lock lock(mutex_);
    // The kernel knows of no page yet: nothing was touched before this.
    EXPECT_TRUE(base::MachineNuma().Locate(mapping).empty());
    asked_.emplace_back(mapping.size(), node);
    if (refusal) return tl::unexpected<base::Error>(*refusal);
    if (node != 0 && node != 1) return base::Fail(base::Code::kInvalidArgument, "there is no NUMA node ", node);
    return {};
  }
  std::vector<int> Cores(std::int32_t node) override {
    const std::scoped_lock lock(mutex_);
    cores_of_.insert(node);
    return {};
  }
  std::map<std::int32_t, int> Locate(std::span<const std::byte> /*mapping*/) override { return {{1, 64}}; }

  std::optional<base::Error> refusal;
  std::vector<std::pair<std::size_t, std::int32_t>> Asked() {
    const std::scoped_lock lock(mutex_);
    return asked_;
  }
  std::set<std::int32_t> CoresOf() {
    const std::scoped_lock lock(mutex_);
    return cores_of_;
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<std::size_t, std::int32_t>> asked_;  // guarded by mutex_
  std::set<std::int32_t> cores_of_;                          // guarded by mutex_
};

// How often the log has this event while it lives.
class LogCounter {
 public:
  LogCounter() { testing::internal::CaptureStderr(); }
  std::string End() { return testing::internal::GetCapturedStderr(); }
};

std::size_t CountOf(const std::string& text, std::string_view word) {
  std::size_t count = 0;
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
  return count;
}

TEST(StagingPoolTest, TheTrainersBytesAreTheDaemonsBytes) {
  StagingPool pool(2);
  ASSERT_TRUE(pool.Allocate({"default/gpt", Rank(0)}, 8192));
  const auto memory = pool.Find({"default/gpt", Rank(0)});
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
  ASSERT_TRUE(pool.Allocate({"default/gpt", Rank(0)}, kBytes));
  const auto memory = pool.Find({"default/gpt", Rank(0)});
  for (std::size_t at = 0; at < kBytes; at += 512) memory->bytes()[at] = static_cast<std::byte>(at / 512 % 251);
  pool.WaitTouched();
  for (std::size_t at = 0; at < kBytes; at += 512) {
    ASSERT_EQ(memory->bytes()[at], static_cast<std::byte>(at / 512 % 251)) << at;
  }
}

TEST(StagingPoolTest, MemoryOfAnotherPoolIsTakenUpAsItIs) {
  std::shared_ptr<StagingMemory> handed;
  {
    StagingPool old(1);
    ASSERT_TRUE(old.Allocate({"default/gpt", Rank(0)}, 8192));
    old.Find({"default/gpt", Rank(0)})->bytes()[5000] = std::byte{42};
    auto mapped = MapStaging(*old.Find({"default/gpt", Rank(0)})->Descriptor(), 8192);
    ASSERT_TRUE(mapped) << mapped.error().Text();
    handed = *std::move(mapped);
    EXPECT_FALSE(MapStaging(*handed->Descriptor(), 8193)) << "more than there is";
  }
  StagingPool pool(1);
  pool.TakeUp({"default/gpt", Rank(0)}, std::move(handed), std::nullopt);
  pool.WaitTouched();
  EXPECT_EQ(pool.Find({"default/gpt", Rank(0)})->bytes()[5000], std::byte{42});
  EXPECT_FALSE(MapStaging(base::UniqueFd(), 10));
}

TEST(StagingPoolTest, ARestoresDescriptorCannotWrite) {
  StagingPool pool(1);
  ASSERT_TRUE(pool.Allocate({"default/gpt", Rank(0)}, 4096));
  const auto fd = pool.Find({"default/gpt", Rank(0)})->ReadOnlyDescriptor();
  ASSERT_TRUE(fd);
  EXPECT_FALSE(base::MapSharedMemory(fd->get(), 4096, base::MapAccess::kReadWrite));
  EXPECT_TRUE(base::MapSharedMemory(fd->get(), 4096, base::MapAccess::kRead));
}

TEST(StagingPoolTest, FreedMemoryLivesWhileSomebodyHoldsIt) {
  StagingPool pool(1);
  ASSERT_TRUE(pool.Allocate({"default/gpt", Rank(0)}, 4096));
  const auto memory = pool.Find({"default/gpt", Rank(0)});
  memory->bytes()[0] = std::byte{7};
  pool.Free("default/gpt", Rank(0));
  EXPECT_EQ(pool.Find({"default/gpt", Rank(0)}), nullptr);
  EXPECT_EQ(memory->bytes()[0], std::byte{7});
  ASSERT_TRUE(pool.Allocate({"default/gpt", Rank(0)}, 4096));
  EXPECT_EQ(pool.Find({"default/gpt", Rank(0)})->bytes()[0], std::byte{0}) << "new memory is zeroed";
}

TEST(StagingPoolTest, OwnersAndRanksAreApart) {
  StagingPool pool(1);
  ASSERT_TRUE(pool.Allocate({"default/a", Rank(0)}, 4096));
  ASSERT_TRUE(pool.Allocate({"default/a", Rank(1)}, 8192));
  EXPECT_EQ(pool.Find({"default/b", Rank(0)}), nullptr);
  EXPECT_EQ(pool.Find({"default/a", Rank(1)})->bytes().size(), 8192U);
  EXPECT_EQ(pool.Find({"default/a", Rank(0)})->bytes().size(), 4096U);
}

TEST(StagingPoolTest, AFailureIsAnErrorAndLeavesNothing) {
  StagingPool pool(1);
  ASSERT_TRUE(base::ArmFaults("staging.allocate=nospace"));
  const base::Status made = pool.Allocate({"default/gpt", Rank(0)}, 4096);
  base::DisarmFaults();
  ASSERT_FALSE(made);
  EXPECT_EQ(made.error().code, base::Code::kNoSpace);
  EXPECT_EQ(pool.Find({"default/gpt", Rank(0)}), nullptr);
}

TEST(StagingPoolTest, MemoryIsBoundBeforeItIsTouchedAndTouchedOnThatNode) {
  PaperNuma numa;
  StagingPool pool(1, numa);
  ASSERT_TRUE(pool.Allocate({"default/gpt", Rank(0)}, 8192, 1));
  pool.WaitTouched();
  EXPECT_THAT(numa.Asked(), testing::ElementsAre(std::pair(std::size_t{8192}, 1)));
  EXPECT_THAT(numa.CoresOf(), testing::ElementsAre(1));
}

TEST(StagingPoolTest, MemoryThatMayLieAnywhereIsNotBound) {
  PaperNuma numa;
  StagingPool pool(1, numa);
  ASSERT_TRUE(pool.Allocate({"default/gpt", Rank(0)}, 8192));
  pool.WaitTouched();
  EXPECT_THAT(numa.Asked(), testing::IsEmpty());
  EXPECT_THAT(numa.CoresOf(), testing::IsEmpty());
}

TEST(StagingPoolTest, ABadNodeIsLoggedEachTimeAndTheMemoryIsThere) {
  LogCounter log;
  {
    PaperNuma numa;
    StagingPool pool(1, numa);
    ASSERT_TRUE(pool.Allocate({"default/gpt", Rank(0)}, 8192, 7));
    ASSERT_TRUE(pool.Allocate({"default/gpt", Rank(1)}, 8192, -3));
    pool.WaitTouched();
    pool.Find({"default/gpt", Rank(1)})->bytes()[0] = std::byte{1};
  }
  const std::string said = log.End();
  EXPECT_EQ(CountOf(said, "staging_not_bound"), 2U) << said;
  EXPECT_THAT(said, testing::HasSubstr("there is no NUMA node 7"));
}

TEST(StagingPoolTest, AMachineThatRefusesIsLoggedOnce) {
  for (const base::Code code : {base::Code::kPermissionDenied, base::Code::kUnsupported}) {
    LogCounter log;
    {
      PaperNuma numa;
      numa.refusal = base::Error{code, "not here", nullptr};
      StagingPool pool(1, numa);
      for (int rank = 0; rank < 3; ++rank) ASSERT_TRUE(pool.Allocate({"default/gpt", Rank(rank)}, 8192, 0));
      pool.WaitTouched();
    }
    const std::string said = log.End();
    EXPECT_EQ(CountOf(said, "staging_not_bound"), 1U) << said;
  }
}

TEST(StagingPoolTest, TheLogSaysWhereBoundMemoryLies) {
  LogCounter log;
  {
    PaperNuma numa;
    StagingPool pool(1, numa);
    ASSERT_TRUE(pool.Allocate({"default/gpt", Rank(3)}, 8192, 0));
    ASSERT_TRUE(pool.Allocate({"default/gpt", Rank(4)}, 8192));
    pool.WaitTouched();
  }
  const std::string said = log.End();
  EXPECT_EQ(CountOf(said, "staging_placed"), 1U) << said;
  EXPECT_THAT(said, testing::HasSubstr("default/gpt rank 3"));
  EXPECT_THAT(said, testing::HasSubstr("64 on 1"));
}

// Most of the memory of each node's rank must lie there; the preference is not force, and a full node leaves some to
// others. Huge pages are taken where the machine has them.
void ExpectOnItsNode(base::Numa& numa) {
  const auto nodes = base::ReadNumaNodes(base::PosixFileSystem());
  if (nodes.empty()) GTEST_SKIP() << "needs a kernel with NUMA";
  for (const base::NumaNode& node : nodes) {
    if (node.cores.empty()) continue;
    StagingPool pool(2, numa);
    ASSERT_TRUE(pool.Allocate({"default/gpt", Rank(0)}, 64 * base::kMiB, node.id));
    pool.WaitTouched();
    const auto found = base::MachineNuma().Locate(pool.Find({"default/gpt", Rank(0)})->bytes());
    if (found.empty()) GTEST_SKIP() << "needs move_pages(2), which a container may refuse";
    ASSERT_TRUE(found.contains(node.id)) << node.id;
    EXPECT_GT(found.at(node.id), 32) << node.id;
  }
}

TEST(StagingPoolTest, MemoryLiesOnWhicheverNodeOfThisMachineItIsBoundTo) { ExpectOnItsNode(base::MachineNuma()); }

TEST(StagingPoolTest, WhereMemoryMayNotBeBoundItLiesWhereItIsTouched) {
  class Unbinding final : public base::Numa {
   public:
    base::Status Prefer(std::span<std::byte> /*mapping*/, std::int32_t /*node*/) override {
      return base::Fail(base::Code::kPermissionDenied, "as a container says");
    }
    std::vector<int> Cores(std::int32_t node) override { return base::MachineNuma().Cores(node); }
    std::map<std::int32_t, int> Locate(std::span<const std::byte> mapping) override {
      return base::MachineNuma().Locate(mapping);
    }
  } numa;
  for (const base::NumaNode& node : base::ReadNumaNodes(base::PosixFileSystem())) {
    const base::StayOnCores stay(node.cores);
    if (!node.cores.empty() && base::AllowedCores() != node.cores) GTEST_SKIP() << "needs all cores of the machine";
  }
  ExpectOnItsNode(numa);
}

}  // namespace
}  // namespace belay::checkpoint
