// Bounds a rate of bytes. Pure: who is about to move some is told until when to wait.
#pragma once

#include <algorithm>
#include <cstdint>

#include "runtime/base/clock.h"

namespace belay::base {

class Pace {
 public:
  explicit Pace(std::uint64_t bytes_per_second) : rate_(bytes_per_second) {}  // 0: no limit

  // `bytes` shall move now; they may at the time returned, which is `now` or later. Time in which nothing moved is not
  // saved up. For one thread at a time.
  SteadyTime Take(std::uint64_t bytes, SteadyTime now) {
    if (rate_ == 0) return now;
    const SteadyTime start = std::max(free_at_, now);
    const std::chrono::duration<double> cost(static_cast<double>(bytes) / static_cast<double>(rate_));
    free_at_ = start + std::chrono::duration_cast<Duration>(cost);
    return start;
  }

 private:
  std::uint64_t rate_;
  SteadyTime free_at_{};
};

}  // namespace belay::base
