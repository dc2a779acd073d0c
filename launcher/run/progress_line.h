// The one line of progress. Pure.
//
//   step 1200/5000  loss 2.3456  812 samples/s  103k tokens/s  stall 1.2 ms  wait 0.4 ms  saved 1100  ETA 3m20s
//
// "stall" is what the last save cost training, "wait" the last step's wait for input.
#pragma once

#include <optional>
#include <string>

#include "launcher/supervise/supervisor.h"
#include "runtime/base/clock.h"

namespace belay::launcher {

// Steps per second as seen from outside, smoothed over about ten seconds.
class StepRate {
 public:
  void Observe(std::int64_t step, base::SteadyTime now);
  void Reset() { last_ = {}; }
  std::optional<double> per_second() const { return rate_; }

 private:
  struct Sample {
    std::int64_t step;
    base::SteadyTime at;
  };
  std::optional<Sample> last_;
  std::optional<double> rate_;
};

// The step every attached rank has finished; no value if none has attached.
std::optional<std::int64_t> CommonStep(const SupervisorState& state);

// Empty when there is nothing to show. Cut to `columns`.
std::string ProgressLine(const SupervisorState& state, std::optional<double> steps_per_second, int columns);

// "45s", "3m20s", "2h05m", "3d04h".
std::string HumanDuration(double seconds);
// "812", "103k", "1.2M".
std::string HumanCount(double value);

}  // namespace belay::launcher
