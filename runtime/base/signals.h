// Signals as values instead of interruptions.
//
// A program makes one watcher at the start of main, before its first thread, so that every thread blocks these signals;
// from then on they arrive only through Next. Children start with nothing blocked (ProcessSpawner sees to that).
#pragma once

#include <initializer_list>
#include <optional>

#include "runtime/base/clock.h"
#include "runtime/base/result.h"
#include "runtime/base/unique_fd.h"

namespace belay::base {

class SignalWatcher {
 public:
  // Blocks `signals` in the calling thread and in those it will start. They stay blocked when the watcher is gone.
  // Those that the process was started with as ignored stay ignored.
  static Result<SignalWatcher> Create(std::initializer_list<int> signals);

  // The next signal; no value once the deadline passes or after Interrupt(). One thread at a time.
  Result<std::optional<int>> Next(std::optional<Duration> deadline);
  // Makes the current or the next call of Next return at once. Any thread.
  void Interrupt();

 private:
  SignalWatcher(UniqueFd signals, UniqueFd wake) : signals_(std::move(signals)), wake_(std::move(wake)) {}
  UniqueFd signals_, wake_;
};

}  // namespace belay::base
