// Deadlines for poll(2). Inside runtime/base/posix only.
#pragma once

#include <poll.h>

#include <optional>
#include <span>

#include "runtime/base/clock.h"
#include "runtime/base/result.h"

namespace belay::base {

// A point in steady time, or never.
class Deadline {
 public:
  explicit Deadline(std::optional<Duration> from_now) {
    if (from_now) end_ = SystemClock().Now() + *from_now;
  }
  // What is left, never negative; no value: for ever.
  std::optional<Duration> Left() const;

 private:
  std::optional<SteadyTime> end_;
};

// Waits until one of them is ready (true) or the deadline passes (false). Interruptions by signals are ridden out.
Result<bool> PollUntil(std::span<pollfd> wanted, const Deadline& deadline);

}  // namespace belay::base
