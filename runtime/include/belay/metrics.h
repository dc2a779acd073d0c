// Per-step metrics: to JSON lines and TensorBoard event files in the run directory, and to the launcher's progress
// display.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

namespace belay {

class Session;

struct StepMetrics {
  double loss = 0;
  std::int64_t samples = 0;             // in this step, this rank
  std::int64_t tokens = 0;              // in this step, this rank; 0: not text
  double data_wait_seconds = 0;         // of this step: making the batch, moving it to the device, waiting for either
  std::map<std::string, double> extra;  // "learning_rate", "gradient_norm", ...
};

// Rank 0 writes; the others only update their control page. A full disk stops the files with one warning, not training.
class Metrics {
 public:
  explicit Metrics(Session& session, std::int64_t total_steps = 0);
  ~Metrics();
  // After each step, before step_done.
  void step(std::int64_t step, const StepMetrics& metrics);
  void scalar(std::int64_t step, const std::string& name, double value);  // "validation_loss"
  void text(std::int64_t step, const std::string& name, const std::string& value);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace belay
