#include "checkpoint/client/staging_plan.h"

#include <atomic>
#include <thread>

#include "runtime/base/units.h"
#include "tests/checkpoint/client/sample_state.h"

namespace belay::checkpoint {
namespace {

using base::Code;

TEST(StagingPlanTest, CopiesTileEveryDataSectionAndStayInsideAChunk) {
  SampleRank rank(0, 1);
  const auto plan = PlanStaging(rank.plans, rank.sources);
  ASSERT_TRUE(plan) << plan.error().Text();
  std::size_t copy = 0;
  std::size_t chunk = 0;
  for (std::size_t f = 0; f < rank.plans.size(); ++f) {
    EXPECT_EQ(plan->file_offsets[f] % 4096, 0U);
    const std::uint64_t data_start = plan->file_offsets[f] + rank.plans[f].header_bytes;
    std::uint64_t position = 0;
    for (std::uint64_t c = 0; c < ChunkCount(rank.plans[f].data_bytes); ++c, ++chunk) {
      const StagedChunk& staged = plan->chunks[chunk];
      EXPECT_EQ(staged.file, f);
      EXPECT_EQ(staged.chunk, c);
      EXPECT_EQ(staged.offset, data_start + c * kChunkBytes);
      for (; copy <= staged.last_copy; ++copy) {
        EXPECT_EQ(plan->copies[copy].destination, data_start + position);
        position += plan->copies[copy].bytes;
      }
      EXPECT_EQ(position, std::min((c + 1) * kChunkBytes, rank.plans[f].data_bytes));
    }
    EXPECT_EQ(position, rank.plans[f].data_bytes);
    EXPECT_LE(plan->file_offsets[f] + rank.plans[f].FileBytes(), plan->bytes);
  }
  EXPECT_EQ(chunk, plan->chunks.size());
  EXPECT_EQ(copy, plan->copies.size());
}

TEST(StagingPlanTest, ARankThatWritesNothingStillHasMemory) {
  const auto plan = PlanStaging({}, {});
  ASSERT_TRUE(plan);
  EXPECT_EQ(plan->bytes, 4096U);
}

TEST(StagingPlanTest, RefusesSourcesThatDoNotFit) {
  SampleRank rank(0, 1);
  auto sources = rank.sources;
  sources[0][0].bytes -= 1;
  EXPECT_EQ(PlanStaging(rank.plans, sources).error().code, Code::kInvalidArgument);
  sources = rank.sources;
  sources[0].pop_back();
  EXPECT_EQ(PlanStaging(rank.plans, sources).error().code, Code::kInvalidArgument);
  sources = rank.sources;
  sources[0][0].data = nullptr;
  EXPECT_EQ(PlanStaging(rank.plans, sources).error().code, Code::kInvalidArgument);
}

TEST(MemoryCopierTest, ManyThreadsCopyEverythingOnce) {
  std::vector<std::byte> from(5'000'000), to(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) from[i] = static_cast<std::byte>(base::Mix64(i));
  std::vector<Copier::Copy> copies;
  base::Rng rng(42);
  for (std::size_t at = 0; at < from.size();) {
    const std::size_t bytes = std::min<std::size_t>(rng.Below(3000) + 1, from.size() - at);
    copies.push_back({from.data() + at, to.data() + at, bytes});
    at += bytes;
  }
  const auto copier = MakeMemoryCopier();
  for (int round = 0; round < 3; ++round) {
    std::fill(to.begin(), to.end(), std::byte{0});
    ASSERT_TRUE(copier->Begin(copies));
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
      for (std::size_t first = next.fetch_add(100); first < copies.size(); first = next.fetch_add(100)) {
        const std::size_t last = std::min(first + 99, copies.size() - 1);
        const auto digest = copier->Land(first, last);
        ASSERT_TRUE(digest);
        const std::byte* const end = copies[last].source + copies[last].bytes;
        EXPECT_EQ(*digest, DigestChunk({copies[first].source, end}));
      }
    };
    {
      std::vector<std::jthread> threads;
      for (int t = 0; t < 4; ++t) threads.emplace_back(work);
    }
    EXPECT_TRUE(from == to);
  }
}

}  // namespace
}  // namespace belay::checkpoint
