// The command line of train_vision, and what it configures. Free of libtorch, whose headers take long to compile.
#pragma once

#include <cstdint>
#include <string>

namespace examples {

struct ResNetConfig {
  std::int64_t blocks = 1;  // per stage
  std::int64_t width = 16;  // channels of the first stage
  std::int64_t classes = 10;
};

struct VisionOptions {
  std::string data;
  std::int64_t limit = 0;  // images of the training set; 0: all
  std::int64_t shift = 2;  // pixels
  ResNetConfig model;
  std::int64_t batch = 64;  // images a step and rank
  std::int64_t steps = 1000;
  std::uint64_t seed = 1;
  std::string optimizer = "sgd";  // or "adamw"
  double learning_rate = 0.1, momentum = 0.9, weight_decay = 5e-4;
  std::int64_t warmup = 50;
  bool bf16 = false;
  std::int64_t test_limit = 0;
  std::string loss_log;
  std::int64_t report_every = 50;
  std::int64_t checkpoint_every = 100, keep = 3;
};

// Exits 64 with a message on a bad command line.
VisionOptions ParseVisionOptions(int argc, char** argv);

// Linear from 0 over the warm-up, then half a cosine down to 0 at the last step.
double LearningRate(const VisionOptions& options, std::int64_t step);

}  // namespace examples
