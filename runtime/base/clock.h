// Seam: time. The only way belay's code learns what time it is or waits for it.
//
// Thread-safe. Steady time never goes back and is what all waiting is counted in; wall time may jump and is for people,
// logs and file names only.
#pragma once

#include <chrono>
#include <string>

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

// "2026-11-22T10:11:12.345Z": RFC 3339, UTC, milliseconds.
std::string Rfc3339(WallTime time);

}  // namespace belay::base
