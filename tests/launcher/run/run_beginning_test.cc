#include "launcher/run/run_beginning.h"

#include <gtest/gtest.h>

namespace belay::launcher {
namespace {

std::string Words(std::optional<std::int64_t> step, std::uint32_t suspects, int restarts = 0) {
  SupervisorState state;
  state.generation = base::Generation(3);
  state.resume_step = step;
  state.restarts = restarts;
  RunOptions options;
  options.job = "gpt";
  options.ranks = 2;
  return BeginningWords(state, options, suspects, "/logs");
}

TEST(RunBeginningTest, SaysWhatTheRunBeginsFrom) {
  EXPECT_EQ(Words({}, 0), "job gpt, generation 3, 2 ranks, fresh start; logs in /logs");
  EXPECT_EQ(Words(40, 0), "job gpt, generation 3, 2 ranks, resuming from step 40; logs in /logs");
  EXPECT_EQ(Words({}, 0, 1), "restarting as generation 3 from the beginning");
  EXPECT_EQ(Words(40, 0, 1), "restarting as generation 3 from step 40");
}

TEST(RunBeginningTest, SaysThatCheckpointsArePassedOver) {
  EXPECT_EQ(Words(40, 1),
            "job gpt, generation 3, 2 ranks, resuming from step 40, passing over 1 suspect checkpoint; "
            "logs in /logs");
  EXPECT_EQ(Words(40, 2, 1), "restarting as generation 3 from step 40, passing over 2 suspect checkpoints");
  EXPECT_EQ(Words({}, 2), "job gpt, generation 3, 2 ranks, with nothing but 2 suspect checkpoints; logs in /logs");
}

}  // namespace
}  // namespace belay::launcher
