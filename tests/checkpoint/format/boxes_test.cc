#include "checkpoint/format/boxes.h"

#include <gtest/gtest.h>

#include <limits>
#include <map>

#include "tests/checkpoint/format/random_layout.h"

namespace belay::checkpoint {
namespace {

using Runs = std::vector<checkpoint::Run>;

TEST(BoxesTest, CountsElements) {
  EXPECT_EQ(ElementCount(Box{}), 1U);
  EXPECT_EQ(ElementCount(WholeBox({3, 4})), 12U);
  EXPECT_EQ(ElementCount(WholeBox({3, 0})), 0U);
}

TEST(BoxesTest, CheckedBytesSeesOverflowAndNegatives) {
  const std::int64_t large = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(CheckedBytes({2, 3}, 8), 48U);
  EXPECT_EQ(CheckedBytes({}, 8), 8U);
  EXPECT_EQ(CheckedBytes({large, large, 0}, 8), 0U);
  EXPECT_EQ(CheckedBytes({large, large}, 1), std::nullopt);
  EXPECT_EQ(CheckedBytes({large}, 2), std::nullopt);
  EXPECT_EQ(CheckedBytes({-1, 0}, 2), std::nullopt);
}

TEST(BoxesTest, IntersectsWhatMeets) {
  EXPECT_EQ(Intersect(Box{{0, 0}, {4, 4}}, Box{{2, 3}, {9, 9}}), (Box{{2, 3}, {2, 1}}));
  EXPECT_EQ(Intersect(Box{{0}, {4}}, Box{{4}, {1}}), std::nullopt);  // they only touch
  EXPECT_EQ(Intersect(Box{{0}, {4}}, Box{{2}, {0}}), std::nullopt);  // one is empty
  EXPECT_EQ(Intersect(Box{}, Box{}), Box{});
}

TEST(BoxesTest, ContainsItselfAndNothingLarger) {
  EXPECT_TRUE(Contains(Box{{1}, {2}}, Box{{1}, {2}}));
  EXPECT_FALSE(Contains(Box{{1}, {2}}, Box{{0}, {2}}));
  EXPECT_FALSE(Contains(Box{{1}, {2}}, Box{{2}, {2}}));
  EXPECT_FALSE(Contains(Box{{1}, {2}}, Box{}));
}

TEST(BoxesTest, RunsAreOneForEqualBoxes) {
  EXPECT_EQ(RunsBetween(WholeBox({5, 4, 3}), WholeBox({5, 4, 3}), 2), (Runs{{0, 0, 120}}));
  EXPECT_EQ(RunsBetween(Box{}, Box{}, 8), (Runs{{0, 0, 8}}));
}

TEST(BoxesTest, RunsAreOneForWholeRowsAndOneEachForPartsOfRows) {
  EXPECT_EQ(RunsBetween(WholeBox({6, 4}), Box{{2, 0}, {3, 4}}, 4), (Runs{{32, 0, 48}}));
  EXPECT_EQ(RunsBetween(WholeBox({3, 4}), Box{{1, 1}, {2, 2}}, 1), (Runs{{5, 0, 2}, {9, 2, 2}}));
  EXPECT_EQ(RunsBetween(WholeBox({3, 4}), Box{{0, 4}, {3, 0}}, 1), Runs{});
}

TEST(BoxesTest, FindsTheOverlap) {
  const Box a{{0, 0}, {2, 4}}, b{{2, 0}, {2, 2}}, c{{2, 2}, {2, 2}}, d{{3, 1}, {1, 2}}, empty{{0, 0}, {0, 4}};
  EXPECT_EQ(FindOverlap({&a, &b, &c, &empty}), std::nullopt);
  EXPECT_NE(FindOverlap({&a, &b, &d}), std::nullopt);
  const Box scalar;
  EXPECT_NE(FindOverlap({&scalar, &scalar}), std::nullopt);
}

// Every element of the intersection, and nothing else, is carried to its place, once; adjacent runs were merged.
TEST(BoxesTest, RandomRunsCarryExactlyTheIntersection) {
  for (const std::uint64_t seed : test::Seeds(500)) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    base::Rng rng(seed);
    std::vector<std::int64_t> shape;
    for (std::int64_t d = test::Between(rng, 0, 4); d > 0; --d) shape.push_back(test::Between(rng, 1, 6));
    const Box source = test::RandomBox(rng, shape), destination = test::RandomBox(rng, shape);
    // The global index of every element of a box, in its row-major order.
    const auto places = [&](const Box& box) {
      std::vector<std::uint64_t> all;
      for (std::uint64_t n = 0; n < ElementCount(box); ++n) {
        std::uint64_t rest = n, global = 0, stride = 1;
        for (std::size_t d = shape.size(); d-- > 0;) {
          const auto length = static_cast<std::uint64_t>(box.lengths[d]);
          global += (static_cast<std::uint64_t>(box.offsets[d]) + rest % length) * stride;
          rest /= length;
          stride *= static_cast<std::uint64_t>(shape[d]);
        }
        all.push_back(global);
      }
      return all;
    };
    const auto from = places(source), to = places(destination);
    std::map<std::uint64_t, std::uint64_t> carried;  // source element -> destination element
    const Runs runs = RunsBetween(source, destination, 3);
    for (std::size_t i = 0; i < runs.size(); ++i) {
      ASSERT_EQ(runs[i].bytes % 3, 0U);
      for (std::uint64_t e = 0; e < runs[i].bytes / 3; ++e) {
        ASSERT_TRUE(carried.emplace(runs[i].source / 3 + e, runs[i].destination / 3 + e).second);
      }
      if (i > 0) {
        ASSERT_FALSE(runs[i - 1].source + runs[i - 1].bytes == runs[i].source &&
                     runs[i - 1].destination + runs[i - 1].bytes == runs[i].destination);
      }
    }
    const auto both = Intersect(source, destination);
    ASSERT_EQ(carried.size(), both ? ElementCount(*both) : 0);
    for (const auto& [s, d] : carried) ASSERT_EQ(from.at(s), to.at(d));
  }
}

}  // namespace
}  // namespace belay::checkpoint
