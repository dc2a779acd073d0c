// What every Clock promises (runtime/base/clock.h).
#include "runtime/base/clock.h"
#include "runtime/base/sim/sim_clock.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

using std::chrono::milliseconds;

struct RealClock {
  Clock& clock() { return SystemClock(); }
};
struct FakeClock {
  SimClock sim;
  Clock& clock() { return sim; }
};

template <typename T>
class ClockContract : public testing::Test {
 protected:
  T maker_;
};
using Clocks = testing::Types<RealClock, FakeClock>;
TYPED_TEST_SUITE(ClockContract, Clocks);

TYPED_TEST(ClockContract, SleepsAtLeastAsLongAsAsked) {
  Clock& clock = this->maker_.clock();
  const SteadyTime before = clock.Now();
  clock.SleepFor(milliseconds(2));
  EXPECT_GE(clock.Now() - before, milliseconds(2));
}

TYPED_TEST(ClockContract, DoesNotSleepForNothing) {
  Clock& clock = this->maker_.clock();
  const SteadyTime before = clock.Now();
  clock.SleepFor(-std::chrono::hours(1));
  clock.SleepFor(Duration::zero());
  EXPECT_LT(clock.Now() - before, std::chrono::minutes(1));
  EXPECT_GE(clock.Now(), before);
}

TYPED_TEST(ClockContract, WallTimeIsInThisCentury) {
  EXPECT_GT(this->maker_.clock().WallNow().time_since_epoch(), std::chrono::hours(24 * 365 * 50));
}

}  // namespace
}  // namespace belay::base
