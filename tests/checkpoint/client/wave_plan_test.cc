#include "checkpoint/client/wave_plan.h"

#include "runtime/base/units.h"
#include "tests/checkpoint/client/sample_state.h"

namespace belay::checkpoint {
namespace {

class WavePlanTest : public testing::Test {
 protected:
  WavePlanTest() : rank_(0, 1), staging_(*PlanStaging(rank_.plans, rank_.sources)) {}

  SampleRank rank_;
  StagingPlan staging_;
};

TEST_F(WavePlanTest, PiecesTileEveryDataSectionInOrder) {
  for (const std::uint64_t window : {WindowBytesMin(staging_, rank_.plans), 9 * base::kMiB + 1, staging_.bytes}) {
    SCOPED_TRACE(window);
    const WavePlan plan = PlanWaves(staging_, rank_.plans, window);
    std::vector<std::uint64_t> next;
    for (const ShardPlan& file : rank_.plans) next.push_back(file.header_bytes);
    std::size_t chunks = 0;
    for (const Wave& wave : plan.waves) {
      chunks += wave.chunks.size();
      for (const WavePiece& piece : wave.pieces) {
        EXPECT_EQ(piece.file_offset, next[piece.file]);
        EXPECT_EQ(piece.file_offset % 4096, 0U);
        EXPECT_EQ(piece.offset % 4096, 0U);
        next[piece.file] += piece.bytes;
      }
    }
    for (std::size_t f = 0; f < next.size(); ++f) EXPECT_EQ(next[f], rank_.plans[f].FileBytes());
    EXPECT_EQ(chunks, staging_.chunks.size());
  }
}

TEST_F(WavePlanTest, WavesTakeTurnsInTheHalvesAndStayInThem) {
  const std::uint64_t window = 9 * base::kMiB, half = window / 2;
  const WavePlan plan = PlanWaves(staging_, rank_.plans, window);
  ASSERT_GT(plan.waves.size(), 2U);
  for (std::size_t w = 0; w < plan.waves.size(); ++w) {
    const std::uint64_t begin = w % 2 * half;
    for (const WavePiece& piece : plan.waves[w].pieces) {
      EXPECT_GE(piece.offset, begin);
      EXPECT_LE(piece.offset + piece.bytes, begin + half);
    }
    std::size_t copy = 0;
    for (const StagedChunk& chunk : plan.waves[w].chunks) {
      EXPECT_EQ(chunk.first_copy, copy);
      std::uint64_t at = chunk.offset;
      for (; copy <= chunk.last_copy; ++copy) {
        EXPECT_EQ(plan.waves[w].copies[copy].destination, at) << "a chunk's copies lie side by side";
        at += plan.waves[w].copies[copy].bytes;
      }
      EXPECT_EQ(at, chunk.offset + chunk.bytes);
    }
  }
}

TEST_F(WavePlanTest, AllHeadersFitIntoTheSmallestWindow) {
  const std::uint64_t window = WindowBytesMin(staging_, rank_.plans);
  const WavePlan plan = PlanWaves(staging_, rank_.plans, window);
  std::uint64_t end = 0;
  for (std::size_t f = 0; f < rank_.plans.size(); ++f) {
    EXPECT_GE(plan.header_offsets[f], end);
    EXPECT_EQ(plan.header_offsets[f] % 4096, 0U);
    end = plan.header_offsets[f] + rank_.plans[f].header_bytes;
  }
  EXPECT_LE(end, window);
  EXPECT_LT(window, staging_.bytes);
}

TEST(EmptyWavePlanTest, AStateWithoutDataHasNoWaves) {
  const auto staging = PlanStaging({}, {});
  EXPECT_TRUE(PlanWaves(*staging, {}, WindowBytesMin(*staging, {})).waves.empty());
}

}  // namespace
}  // namespace belay::checkpoint
