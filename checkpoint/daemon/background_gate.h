// What holds back the work that nobody waits for: the scrubber's reading, repairs, the probe of a device. One for all
// of them, so that together they stay below one rate, and stand back while anybody saves or restores.
//
// Deleting checkpoints does not pass: it moves no bytes, and a full disk waits for it.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "runtime/base/clock.h"
#include "runtime/base/pace.h"

namespace belay::checkpoint {

class BackgroundGate {
 public:
  BackgroundGate(base::Clock& clock, std::uint64_t bytes_per_second) : clock_(clock), pace_(bytes_per_second) {}

  // `bytes` are about to be moved; returns when they may. False: move no more. Any thread that may wait.
  bool Pass(std::uint64_t bytes);
  // The same for what cannot wait for the rate: it goes now, and whatever passes next waits the longer.
  bool PassInHaste(std::uint64_t bytes);
  // How often somebody has begun to save or restore. What measures compares it, to know that it was alone.
  std::uint64_t Pauses() const;
  bool IsOpen() const;  // neither paused nor closed

  // Any thread.
  void SetPaused(bool paused);
  void Close();

 private:
  base::Clock& clock_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  base::Pace pace_;           // guarded by mutex_
  bool paused_ = false;       // guarded by mutex_
  bool closed_ = false;       // guarded by mutex_
  std::uint64_t pauses_ = 0;  // guarded by mutex_
};

// How one piece of work passes the gate.
class Passage {
 public:
  enum class Haste : std::uint8_t { kNone, kMemoryMayGo };
  Passage(BackgroundGate& gate, Haste haste = Haste::kNone) : gate_(&gate), haste_(haste) {}  // NOLINT: a gate is one
  bool Pass(std::uint64_t bytes) const {
    return haste_ == Haste::kNone ? gate_->Pass(bytes) : gate_->PassInHaste(bytes);
  }

 private:
  BackgroundGate* gate_;
  Haste haste_;
};

}  // namespace belay::checkpoint
