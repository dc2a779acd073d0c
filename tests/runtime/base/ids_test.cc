#include "runtime/base/ids.h"

#include <concepts>
#include <unordered_set>

#include "runtime/base/rng.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

static_assert(!std::convertible_to<int, Rank> && !std::convertible_to<Rank, int>);
static_assert(!std::convertible_to<Rank, LocalRank> && !std::constructible_from<Step, Rank>);

TEST(IdsTest, CompareHashAndPrint) {
  EXPECT_LT(Step(3), Step(10));
  EXPECT_EQ(Rank(), Rank(0));
  EXPECT_EQ((std::unordered_set<Generation>{Generation(1), Generation(2), Generation(1)}.size()), 2U);
  EXPECT_EQ(Str("step ", Step(1200)), "step 1200");
}

// Stored placements would change if these did.
TEST(RngTest, OutputIsSpecified) {
  Rng rng(1234567);
  EXPECT_EQ(rng.Next(), 6457827717110365317ULL);
  EXPECT_EQ(rng.Next(), 3203168211198807973ULL);
  EXPECT_EQ(rng.Next(), 9817491932198370423ULL);
}

TEST(RngTest, StaysInItsBounds) {
  Rng rng(1);
  for (int i = 0; i < 1000; ++i) {
    EXPECT_LT(rng.Below(7), 7U);
    const double uniform = rng.Uniform();
    EXPECT_TRUE(uniform >= 0 && uniform < 1);
  }
  EXPECT_EQ(rng.Below(1), 0U);
}

}  // namespace
}  // namespace belay::base
