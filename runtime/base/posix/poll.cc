#include "runtime/base/posix/poll.h"

#include <algorithm>
#include <cerrno>

namespace belay::base {

std::optional<Duration> Deadline::Left() const {
  if (!end_) return std::nullopt;
  return std::max<Duration>(*end_ - SystemClock().Now(), Duration::zero());
}

Result<bool> PollUntil(std::span<pollfd> wanted, const Deadline& deadline) {
  while (true) {
    const std::optional<Duration> left = deadline.Left();
    timespec time{};
    if (left) {
      time.tv_sec = static_cast<time_t>(left->count() / 1'000'000'000);
      time.tv_nsec = static_cast<long>(left->count() % 1'000'000'000);
    }
    const int ready = ::ppoll(wanted.data(), wanted.size(), left ? &time : nullptr, nullptr);
    if (ready > 0) return true;
    if (ready == 0) return false;
    if (errno != EINTR) return FailErrno(errno, "poll");
  }
}

}  // namespace belay::base
