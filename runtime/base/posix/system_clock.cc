#include <cerrno>
#include <ctime>

#include "runtime/base/clock.h"

namespace belay::base {

namespace {

class PosixClock final : public Clock {
 public:
  SteadyTime Now() override { return std::chrono::steady_clock::now(); }
  WallTime WallNow() override { return std::chrono::system_clock::now(); }
  void SleepFor(Duration duration) override {
    if (duration <= Duration::zero()) return;
    const SteadyTime end = Now() + duration;
    const auto ns = end.time_since_epoch().count();
    const timespec until{static_cast<time_t>(ns / 1'000'000'000), static_cast<long>(ns % 1'000'000'000)};
    // An absolute time, so that interrupting signals do not lengthen the sleep.
    while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) == EINTR) {
    }
  }
};

}  // namespace

Clock& SystemClock() {
  static PosixClock clock;
  return clock;
}

}  // namespace belay::base
