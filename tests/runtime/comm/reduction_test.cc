#include "runtime/comm/reduction.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

namespace belay::runtime {
namespace {

template <typename T>
std::vector<T> Reduce(Reduction reduction, Element element, const std::vector<std::vector<T>>& ranks) {
  std::vector<const void*> inputs;
  for (const auto& values : ranks) inputs.push_back(values.data());
  std::vector<T> out(ranks[0].size());
  ReduceInOrder(reduction, element, inputs, out.data(), out.size());
  return out;
}

TEST(ReductionTest, AddsFromTheLeft) {
  // (1e20 + -1e20) + 1 is 1; in another order it is 0.
  EXPECT_EQ(Reduce<double>(Reduction::kSum, Element::kDouble, {{1e20}, {-1e20}, {1}}), std::vector<double>{1});
  EXPECT_EQ(Reduce<double>(Reduction::kSum, Element::kDouble, {{1}, {1e20}, {-1e20}}), std::vector<double>{0});
}

TEST(ReductionTest, RoundsHalfPrecisionOnceAtTheEnd) {
  const std::vector<c10::Half> big(1, 2048.0F);
  const std::vector<c10::Half> one(1, 1.0F);
  EXPECT_EQ(static_cast<float>(Reduce<c10::Half>(Reduction::kSum, Element::kHalf, {big, one, one})[0]), 2050.0F);
  const std::vector<c10::BFloat16> b(1, 256.0F);
  const std::vector<c10::BFloat16> c(1, 1.0F);
  EXPECT_EQ(static_cast<float>(Reduce<c10::BFloat16>(Reduction::kSum, Element::kBFloat16, {b, c, c})[0]), 258.0F);
  // A sum beyond the largest half is no matter if the average is not.
  const std::vector<c10::Half> huge(1, 60000.0F);
  const float average = Reduce<c10::Half>(Reduction::kAverage, Element::kHalf, {huge, huge})[0];
  EXPECT_EQ(average, static_cast<float>(c10::Half(60000.0F)));
}

TEST(ReductionTest, WrapsIntegers) {
  EXPECT_EQ(Reduce<std::int8_t>(Reduction::kSum, Element::kInt8, {{127}, {1}}), std::vector<std::int8_t>{-128});
  EXPECT_EQ(Reduce<std::uint8_t>(Reduction::kProduct, Element::kUint8, {{16}, {17}}), std::vector<std::uint8_t>{16});
  const auto max = std::numeric_limits<std::int64_t>::max();
  EXPECT_EQ(Reduce<std::int64_t>(Reduction::kSum, Element::kInt64, {{max}, {1}})[0],
            std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(Reduce<std::uint16_t>(Reduction::kProduct, Element::kUint16, {{65535}, {65535}}),
            std::vector<std::uint16_t>{1});
}

TEST(ReductionTest, ComparesSignedAndUnsigned) {
  EXPECT_EQ(Reduce<std::int32_t>(Reduction::kMin, Element::kInt32, {{3}, {-4}, {0}}), std::vector<std::int32_t>{-4});
  EXPECT_EQ(Reduce<std::uint64_t>(Reduction::kMax, Element::kUint64, {{~0ULL}, {1}}),
            std::vector<std::uint64_t>{~0ULL});
}

TEST(ReductionTest, HandsNansOnFromAnyRank) {
  for (const auto reduction : {Reduction::kMin, Reduction::kMax, Reduction::kSum}) {
    EXPECT_TRUE(std::isnan(Reduce<float>(reduction, Element::kFloat, {{1}, {NAN}, {2}})[0]));
    EXPECT_TRUE(std::isnan(Reduce<float>(reduction, Element::kFloat, {{NAN}, {1}, {2}})[0]));
  }
}

TEST(ReductionTest, TakesAnyNonzeroByteForTrue) {
  EXPECT_EQ(Reduce<std::uint8_t>(Reduction::kSum, Element::kBool, {{2, 0}, {4, 0}}), (std::vector<std::uint8_t>{1, 0}));
  EXPECT_EQ(Reduce<std::uint8_t>(Reduction::kAnd, Element::kBool, {{2, 1}, {4, 0}}), (std::vector<std::uint8_t>{1, 0}));
  EXPECT_EQ(Reduce<std::uint8_t>(Reduction::kXor, Element::kBool, {{2, 1}, {4, 0}}), (std::vector<std::uint8_t>{0, 1}));
}

TEST(ReductionTest, MayWriteOverAnInput) {
  std::vector<float> a(5000, 1);
  std::vector<float> b(5000, 2);
  std::vector<float> c(5000, 4);
  const std::vector<const void*> inputs = {a.data(), b.data(), c.data()};
  ReduceInOrder(Reduction::kSum, Element::kFloat, inputs, b.data(), b.size());
  EXPECT_EQ(b, std::vector<float>(5000, 7));
}

TEST(ReductionTest, SaysWhatApplies) {
  EXPECT_TRUE(ReductionApplies(Reduction::kAverage, Element::kHalf));
  EXPECT_FALSE(ReductionApplies(Reduction::kAverage, Element::kInt32));
  EXPECT_FALSE(ReductionApplies(Reduction::kAnd, Element::kFloat));
  EXPECT_TRUE(ReductionApplies(Reduction::kAnd, Element::kBool));
}

}  // namespace
}  // namespace belay::runtime
