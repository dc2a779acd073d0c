#include "checkpoint/format/deal.h"

#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "checkpoint/format/boxes.h"
#include "tests/checkpoint/format/random_layout.h"

namespace belay::checkpoint {
namespace {

using base::Code;

RankLayout Rank(std::int32_t rank, std::vector<TensorSpec> tensors) {
  return {base::Rank(rank), {{"model", std::move(tensors)}}};
}
TensorSpec Whole(const std::string& name, std::vector<std::int64_t> shape) {
  return {name, DType::kF32, shape, WholeBox(shape)};
}

TEST(DealTest, CutsOneLargeTensorAmongAllHolders) {
  const std::vector<TensorSpec> tensors{Whole("w", {8, 3})};
  const auto deal = Deal({Rank(0, tensors), Rank(1, tensors), Rank(2, tensors), Rank(3, tensors)});
  ASSERT_TRUE(deal) << deal.error().Text();
  for (std::int64_t r = 0; r < 4; ++r) {
    const auto& pieces = (*deal)[static_cast<std::size_t>(r)];
    ASSERT_EQ(pieces.size(), 1U);
    EXPECT_EQ(pieces[0].box, (Box{{2 * r, 0}, {2, 3}}));
  }
}

TEST(DealTest, GivesCopiesToTheOneWithTheLeast) {
  // Rank 0 alone holds "own"; the shared ones are smaller than a fair share and go to rank 1 whole.
  const auto deal = Deal(
      {Rank(0, {Whole("own", {10}), Whole("a", {3}), Whole("b", {2})}), Rank(1, {Whole("a", {3}), Whole("b", {2})})});
  ASSERT_TRUE(deal);
  ASSERT_EQ((*deal)[0].size(), 1U);
  ASSERT_EQ((*deal)[1].size(), 2U);
  EXPECT_EQ((*deal)[1][0].tensor, 0U);
}

TEST(DealTest, WritesScalarsAndEmptyTensorsOnce) {
  const std::vector<TensorSpec> tensors{Whole("s", {}), Whole("z", {0, 4})};
  const auto deal = Deal({Rank(0, tensors), Rank(1, tensors)});
  ASSERT_TRUE(deal);
  EXPECT_EQ((*deal)[0].size() + (*deal)[1].size(), 2U);
}

TEST(DealTest, LeavesOutEmptyBoxesOfTensorsWithElements) {
  TensorSpec nothing = Whole("w", {4});
  nothing.box = Box{{4}, {0}};
  const auto deal = Deal({Rank(0, {Whole("w", {4})}), Rank(1, {nothing})});
  ASSERT_TRUE(deal);
  EXPECT_EQ((*deal)[0].size(), 1U);
  EXPECT_TRUE((*deal)[1].empty());
}

TEST(DealTest, RefusesHoldersThatDisagree) {
  TensorSpec other_dtype = Whole("w", {4});
  other_dtype.dtype = DType::kBF16;
  const auto code = [](const std::vector<RankLayout>& world) {
    const auto deal = Deal(world);
    return deal ? Code::kInternal : deal.error().code;
  };
  EXPECT_EQ(code({Rank(0, {Whole("w", {4})}), Rank(1, {other_dtype})}), Code::kInvalidArgument);
  EXPECT_EQ(code({Rank(0, {Whole("w", {4})}), Rank(1, {Whole("w", {5})})}), Code::kInvalidArgument);
  TensorSpec front = Whole("w", {4}), back = Whole("w", {4});
  front.box = Box{{0}, {3}};
  back.box = Box{{2}, {2}};
  EXPECT_EQ(code({Rank(0, {front}), Rank(1, {back})}), Code::kInvalidArgument);
  EXPECT_EQ(code({Rank(0, {Whole("w", {4}), Whole("w", {4})})}), Code::kInvalidArgument);
}

TEST(DealTest, SplitsAReplicatedModelEvenly) {
  std::vector<TensorSpec> tensors;
  for (int i = 0; i < 100; ++i) tensors.push_back(Whole("t" + std::to_string(i), {1 + i * 7 % 31, 64}));
  tensors.push_back(Whole("embedding", {5000, 64}));
  std::vector<RankLayout> world;
  for (std::int32_t r = 0; r < 8; ++r) world.push_back(Rank(r, tensors));
  const auto deal = Deal(world);
  ASSERT_TRUE(deal);
  std::uint64_t most = 0, total = 0;
  for (const auto& pieces : *deal) {
    std::uint64_t bytes = 0;
    for (const Piece& piece : pieces) bytes += ElementCount(piece.box) * 4;
    most = std::max(most, bytes);
    total += bytes;
  }
  EXPECT_LE(most, total / 8 * 102 / 100);
}

TEST(DealTest, IsFastForManyTensorsAndRanks) {
  std::vector<TensorSpec> tensors;
  for (int i = 0; i < 20'000; ++i) tensors.push_back(Whole("layers." + std::to_string(i) + ".weight", {64, 64}));
  std::vector<RankLayout> world;
  for (std::int32_t r = 0; r < 8; ++r) world.push_back(Rank(r, tensors));
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(Deal(world));
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now() - start);
  std::cout << "20,000 tensors x 8 ranks: " << took.count() << " ms\n";
  // Ten times what is promised for ten times the tensors; anything quadratic takes minutes.
  EXPECT_LT(took.count(), 10'000);
}

TEST(DealTest, AnyWorldIsWrittenExactlyOnce) {
  for (const std::uint64_t seed : test::Seeds(300)) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    base::Rng rng(seed);
    const auto world = test::MakeRandomWorld(rng).layouts;
    const auto deal = Deal(world);
    ASSERT_TRUE(deal) << deal.error().Text();
    std::map<std::string, std::pair<std::vector<std::int64_t>, std::vector<Box>>> written;
    for (std::size_t r = 0; r < world.size(); ++r) {
      std::map<std::pair<std::size_t, std::size_t>, int> pieces_of;
      for (const PartLayout& part : world[r].parts) {
        for (const TensorSpec& spec : part.tensors) written[part.part + "." + spec.name].first = spec.global_shape;
      }
      for (const Piece& piece : (*deal)[r]) {
        const PartLayout& part = world[r].parts.at(piece.part);
        const TensorSpec& spec = part.tensors.at(piece.tensor);
        ASSERT_EQ(++pieces_of[std::pair(piece.part, piece.tensor)], 1);
        ASSERT_TRUE(Contains(spec.box, piece.box));
        for (std::size_t d = 1; d < spec.box.lengths.size(); ++d) {
          ASSERT_EQ(piece.box.offsets[d], spec.box.offsets[d]);
          ASSERT_EQ(piece.box.lengths[d], spec.box.lengths[d]);
        }
        written[part.part + "." + spec.name].second.push_back(piece.box);
      }
    }
    for (const auto& [name, tensor] : written) {
      const auto covered = CheckCoverage(tensor.first, tensor.second);
      ASSERT_TRUE(covered) << name << ": " << covered.error().Text();
    }
  }
}

TEST(CoverageTest, AcceptsATilingInAnyOrder) {
  EXPECT_TRUE(CheckCoverage({4, 4}, {Box{{2, 0}, {2, 4}}, Box{{0, 3}, {2, 1}}, Box{{0, 0}, {2, 3}}}));
  EXPECT_TRUE(CheckCoverage({}, {Box{}}));
  EXPECT_TRUE(CheckCoverage({0, 4}, {Box{{0, 0}, {0, 4}}}));
}

TEST(CoverageTest, SaysWhatIsMissingDoubledOrOutside) {
  const auto words = [](const base::Status& status) {
    EXPECT_FALSE(status);
    if (status) return std::string();
    EXPECT_EQ(status.error().code, Code::kIncomplete);
    return status.error().message;
  };
  EXPECT_NE(words(CheckCoverage({4}, {Box{{0}, {3}}})).find("3 of 4"), std::string::npos);
  EXPECT_NE(words(CheckCoverage({4}, {Box{{0}, {3}}, Box{{2}, {2}}})).find("overlap"), std::string::npos);
  EXPECT_NE(words(CheckCoverage({4}, {Box{{0}, {3}}, Box{{0}, {3}}, Box{{0}, {3}}})).find("overlap"),
            std::string::npos);
  // The volume is right, but one part is doubled and one missing.
  EXPECT_NE(words(CheckCoverage({4}, {Box{{0}, {3}}, Box{{2}, {1}}})).find("overlap"), std::string::npos);
  EXPECT_NE(words(CheckCoverage({4}, {Box{{0}, {5}}})).find("not inside"), std::string::npos);
  words(CheckCoverage({}, {}));
  words(CheckCoverage({}, {Box{}, Box{}}));
  words(CheckCoverage({4}, {}));
}

}  // namespace
}  // namespace belay::checkpoint
