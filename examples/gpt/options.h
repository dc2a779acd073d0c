// The command line of train_gpt, and what it configures. Free of libtorch, whose headers take long to compile.
#pragma once

#include <cstdint>
#include <string>

namespace examples {

inline constexpr std::int64_t kByteValues = 256;

struct GptConfig {
  std::int64_t depth = 2;    // blocks
  std::int64_t width = 128;  // of the residual stream; a multiple of heads
  std::int64_t heads = 4;
  std::int64_t context = 128;  // the longest sequence
  double dropout = 0.1;
};

struct GenerateOptions {
  std::int64_t bytes = 200;
  std::string prompt = "\n";
  double temperature = 0.8;  // 0: always the likeliest byte
  std::uint64_t seed = 1;
};

struct GptOptions {
  std::string data;
  double held_out = 0.05;
  GptConfig model;
  std::int64_t batch = 8;       // windows a backward pass and rank
  std::int64_t accumulate = 1;  // backward passes a step
  std::int64_t steps = 2000;
  std::uint64_t seed = 1;
  double learning_rate = 1e-3, final_learning_rate = 1e-4;
  std::int64_t warmup = 100;
  double weight_decay = 0.1;
  double clip = 1.0;  // 0: no clipping
  bool bf16 = false;
  std::int64_t validate_every = 250, validate_batches = 8;
  GenerateOptions generate;
  std::string loss_log;
  std::int64_t report_every = 50;
  std::int64_t checkpoint_every = 100, keep = 3;
};

// Exits 64 with a message on a bad command line.
GptOptions ParseGptOptions(int argc, char** argv);

// Linear from 0 over the warm-up, then half a cosine down to the final rate at the last step.
double LearningRate(const GptOptions& options, std::int64_t step);

}  // namespace examples
