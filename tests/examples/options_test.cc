#include "examples/gpt/options.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "examples/common/command_line.h"
#include "examples/vision/options.h"

namespace examples {
namespace {

GptOptions Gpt(std::vector<std::string> words) {
  words.insert(words.begin(), "train_gpt");
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  return ParseGptOptions(static_cast<int>(argv.size()), argv.data());
}

TEST(GptOptionsTest, TakesWhatIsGivenAndDefaultsForTheRest) {
  const auto options = Gpt({"--depth=3", "--dropout", "0", "--bf16", "--sample=0"});
  EXPECT_EQ(options.model.depth, 3);
  EXPECT_EQ(options.model.dropout, 0.0);
  EXPECT_TRUE(options.bf16);
  EXPECT_EQ(options.generate.bytes, 0);
  EXPECT_EQ(options.model.width, 128);
}

TEST(GptOptionsDeathTest, ABadCommandLineExits64AndSaysWhy) {
  const auto usage = testing::ExitedWithCode(kExitUsage);
  EXPECT_EXIT(Gpt({"--dept=3"}), usage, "train_gpt: .*dept.*--help");
  EXPECT_EXIT(Gpt({"--depth=three"}), usage, "--depth=three is not a whole number");
  EXPECT_EXIT(Gpt({"--depth=0"}), usage, "--depth=0 must be at least 1");
  EXPECT_EXIT(Gpt({"--dropout=nan"}), usage, "--dropout");
  EXPECT_EXIT(Gpt({"--depth=1", "--depth=2"}), usage, "--depth is given twice");
  EXPECT_EXIT(Gpt({"--heads=3"}), usage, "--heads must divide --width");
  EXPECT_EXIT(Gpt({"bible.txt"}), usage, "unexpected argument 'bible.txt'");
  EXPECT_EXIT(Gpt({"--steps"}), usage, "steps");
}

TEST(GptOptionsTest, TheLearningRateRisesThenFallsToTheLast) {
  const auto options = Gpt({"--steps=100", "--warmup=10", "--lr=1", "--min-lr=0.1"});
  EXPECT_DOUBLE_EQ(LearningRate(options, 0), 0.1);
  EXPECT_DOUBLE_EQ(LearningRate(options, 9), 1.0);
  EXPECT_DOUBLE_EQ(LearningRate(options, 10), 1.0);
  EXPECT_LT(LearningRate(options, 60), LearningRate(options, 59));
  EXPECT_DOUBLE_EQ(LearningRate(options, 99), 0.1);
  EXPECT_DOUBLE_EQ(LearningRate(Gpt({"--steps=1", "--warmup=0", "--lr=1"}), 0), 1.0);
}

TEST(VisionOptionsDeathTest, ABadCommandLineExits64AndSaysWhy) {
  std::string program = "train_vision", bad = "--optimizer=adagrad";
  char* argv[] = {program.data(), bad.data()};
  EXPECT_EXIT(ParseVisionOptions(2, argv), testing::ExitedWithCode(kExitUsage), "sgd or adamw");
}

}  // namespace
}  // namespace examples
