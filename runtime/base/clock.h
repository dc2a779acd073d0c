// Seam: time. The only way belay's code learns what time it is or waits for it.
//
// Thread-safe. Steady time never goes back and is what all waiting is counted in; wall time may jump and is for people,
// logs and file names only.
#pragma once

#include <chrono>

namespace belay::base {

using Duration = std::chrono::nanoseconds;
using SteadyTime = std::chrono::time_point<std::chrono::steady_clock, Duration>;
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual SteadyTime Now() = 0;
  virtual WallTime WallNow() = 0;
  // Blocks the calling thread for at least `duration`; returns at once if it is not positive.
  virtual void SleepFor(Duration duration) = 0;
};

// The machine's clocks; lives as long as the process.
Clock& SystemClock();

}  // namespace belay::base
