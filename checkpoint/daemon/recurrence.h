// When work that comes round again is due, by the wall clock: it goes on over restarts of the daemon and the machine.
#pragma once

#include <chrono>
#include <cstdint>

#include "runtime/base/clock.h"

namespace belay::checkpoint {

// The wall clock may be set, so its word is asked for again this often.
inline constexpr base::Duration kLookAgain = std::chrono::hours(1);

inline std::int64_t UnixSeconds(base::WallTime wall) {
  return std::chrono::duration_cast<std::chrono::seconds>(wall.time_since_epoch()).count();
}

// `last_unix`: when it was done last; 0: never.
inline bool IsDueAgain(std::int64_t last_unix, base::Duration every, base::WallTime wall) {
  const std::int64_t now = UnixSeconds(wall);
  // One that was later than now: the clock was set back, and nobody knows how long ago it was.
  return last_unix == 0 || now < last_unix ||
         now - last_unix >= std::chrono::duration_cast<std::chrono::seconds>(every).count();
}

}  // namespace belay::checkpoint
