#include "runtime/base/clock.h"

#include "runtime/base/sim/sim_clock.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(Rfc3339Test, WritesUtcWithMilliseconds) {
  EXPECT_EQ(Rfc3339(WallTime()), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(Rfc3339(WallTime(seconds(1'709'209'815) + milliseconds(7))), "2024-02-29T12:30:15.007Z");
  EXPECT_EQ(Rfc3339(WallTime(std::chrono::nanoseconds(999'999'999))), "1970-01-01T00:00:00.999Z");
  EXPECT_EQ(Rfc3339(WallTime(milliseconds(-1))), "1969-12-31T23:59:59.999Z");
}

TEST(SimClockTest, StandsStillUntilMoved) {
  SimClock clock;
  const SteadyTime start = clock.Now();
  EXPECT_EQ(clock.Now(), start);
  clock.Advance(seconds(5));
  clock.SleepFor(seconds(2));
  EXPECT_EQ(clock.Now() - start, seconds(7));
}

TEST(SimClockTest, SteppedWallTimeLeavesSteadyTimeAlone) {
  SimClock clock(WallTime(hours(10)));
  const SteadyTime start = clock.Now();
  clock.StepWall(-hours(3));
  EXPECT_EQ(clock.WallNow(), WallTime(hours(7)));
  EXPECT_EQ(clock.Now(), start);
  clock.Advance(hours(1));
  EXPECT_EQ(clock.WallNow(), WallTime(hours(8)));
}

}  // namespace
}  // namespace belay::base
