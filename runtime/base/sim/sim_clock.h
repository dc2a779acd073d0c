// Clock twin: time stands still until somebody moves it. Sleeping moves it at once.
//
// Thread-safe, but with several threads sleeping time runs as the sum of them: use it where one thread drives
// everything.
#pragma once

#include <mutex>

#include "runtime/base/clock.h"

namespace belay::base {

class SimClock final : public Clock {
 public:
  // Steady time starts at one hour, so that "an hour ago" is a valid time; wall time at `wall`.
  explicit SimClock(WallTime wall = WallTime(std::chrono::seconds(1'790'000'000)));

  SteadyTime Now() override;
  WallTime WallNow() override;
  void SleepFor(Duration duration) override { Advance(duration); }

  // Both times go on; nothing happens if `duration` is not positive.
  void Advance(Duration duration);
  // Somebody sets the machine's clock, forwards or back; steady time does not notice.
  void StepWall(Duration change);

 private:
  std::mutex mutex_;
  SteadyTime steady_;
  WallTime wall_;
};

}  // namespace belay::base
