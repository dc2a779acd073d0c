#include "checkpoint/daemon/background_gate.h"

namespace belay::checkpoint {

bool BackgroundGate::Pass(std::uint64_t bytes) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return closed_ || !paused_; });
  const base::SteadyTime until = pace_.Take(bytes, clock_.Now());
  changed_.wait_until(lock, until, [this] { return closed_; });
  changed_.wait(lock, [this] { return closed_ || !paused_; });  // it may have begun meanwhile
  return !closed_;
}

bool BackgroundGate::PassInHaste(std::uint64_t bytes) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return closed_ || !paused_; });
  pace_.Take(bytes, clock_.Now());
  return !closed_;
}

std::uint64_t BackgroundGate::Pauses() const {
  const std::scoped_lock lock(mutex_);
  return pauses_;
}

bool BackgroundGate::IsOpen() const {
  const std::scoped_lock lock(mutex_);
  return !paused_ && !closed_;
}

void BackgroundGate::SetPaused(bool paused) {
  {
    const std::scoped_lock lock(mutex_);
    if (paused_ == paused) return;
    paused_ = paused;
    if (paused) ++pauses_;
  }
  changed_.notify_all();
}

void BackgroundGate::Close() {
  {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
  }
  changed_.notify_all();
}

}  // namespace belay::checkpoint
