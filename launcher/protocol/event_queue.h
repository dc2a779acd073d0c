// Events from many threads for one loop thread, in order.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "runtime/base/clock.h"

namespace belay::launcher {

template <typename T>
class EventQueue {
 public:
  // Any thread.
  void Push(T event) {
    {
      const std::scoped_lock lock(mutex_);
      events_.push_back(std::move(event));
    }
    arrived_.notify_one();
  }
  // The next event; no value if none comes in time. The loop thread.
  std::optional<T> Pop(base::Duration deadline) {
    std::unique_lock lock(mutex_);
    if (!arrived_.wait_for(lock, deadline, [&] { return !events_.empty(); })) return std::nullopt;
    T event = std::move(events_.front());
    events_.pop_front();
    return event;
  }

 private:
  std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<T> events_;  // guarded by mutex_
};

}  // namespace belay::launcher
