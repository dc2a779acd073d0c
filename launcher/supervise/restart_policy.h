// Whether a failed run is started again. Pure.
//
// A failure that would only repeat itself is not worth a restart: a program that is missing, misused, or that ends with
// an ordinary status before it has finished one step (unless it resumed from a checkpoint, which may be to blame).
// Signals and lost shims come from outside often enough to be tried again.
#pragma once

#include <cstdint>
#include <string>

namespace belay::launcher {

struct FailureFacts {
  int status = 0;          // of the first failed rank, 128 + signal for a signal
  bool by_signal = false;  // a signal ended it, or its shim or mpirun vanished
  bool never_started = false;
  bool attached = true;         // the rank had a Session, so its steps are known
  std::int64_t steps_done = 0;  // by the furthest rank since the start of this generation
  bool resumed = false;         // from a checkpoint: another one may do better
  std::int32_t restarts_used = 0;
  std::int32_t restarts_max = 0;
  bool stop_requested = false;
};

struct RestartDecision {
  bool restart = false;
  std::string why;
};

RestartDecision DecideRestart(const FailureFacts& facts);

}  // namespace belay::launcher
