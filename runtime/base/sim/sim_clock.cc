#include "runtime/base/sim/sim_clock.h"

namespace belay::base {

SimClock::SimClock(WallTime wall) : steady_(std::chrono::hours(1)), wall_(wall) {}

SteadyTime SimClock::Now() {
  const std::scoped_lock lock(mutex_);
  return steady_;
}

WallTime SimClock::WallNow() {
  const std::scoped_lock lock(mutex_);
  return wall_;
}

void SimClock::Advance(Duration duration) {
  if (duration <= Duration::zero()) return;
  const std::scoped_lock lock(mutex_);
  steady_ += duration;
  wall_ += duration;
}

void SimClock::StepWall(Duration change) {
  const std::scoped_lock lock(mutex_);
  wall_ += change;
}

}  // namespace belay::base
