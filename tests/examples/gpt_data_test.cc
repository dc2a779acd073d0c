#include "examples/gpt/data.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <system_error>

namespace examples {
namespace {

std::string Counting(int length) {
  std::string text;
  for (int i = 0; i < length; ++i) text.push_back(static_cast<char>(i % 251));
  return text;
}

TEST(TextDataTest, WindowsCoverTheTrainingPartOnceAndShareOnlyTheirEdges) {
  const TextData data(Counting(1000), 10, 0.1);
  ASSERT_EQ(data.training_windows(), 89);  // 900 bytes; the last target lies inside
  const auto batch = data.TrainingBatch({0, 1, 88});
  ASSERT_EQ(batch.sizes(), torch::IntArrayRef({3, 11}));
  EXPECT_EQ(batch[0][10].item<std::int64_t>(), batch[1][0].item<std::int64_t>());
  EXPECT_EQ(batch[2][0].item<std::int64_t>(), 880 % 251);
}

TEST(TextDataTest, ValidationComesFromTheHeldOutTailOnly) {
  const TextData data(Counting(1000), 10, 0.1);
  ASSERT_EQ(data.validation_windows(), 9);
  EXPECT_EQ(data.ValidationBatch({0})[0][0].item<std::int64_t>(), 900 % 251);
  EXPECT_EQ(data.ValidationBatch({8})[0][10].item<std::int64_t>(), 990 % 251);
}

TEST(TextDataTest, BytesAbove127AreNotNegative) {
  const TextData data(std::string(100, '\xff'), 4, 0.2);
  EXPECT_EQ(data.TrainingBatch({0}).min().item<std::int64_t>(), 255);
}

TEST(TextDataTest, RefusesATextShorterThanAWindow) {
  EXPECT_THROW(TextData("short", 10, 0.5), std::invalid_argument);
  EXPECT_THROW(TextData("", 10, 0.5), std::invalid_argument);
  EXPECT_THROW(TextData(Counting(100), 90, 0.05), std::invalid_argument);
}

TEST(ReadFileTest, NamesTheFileItCannotRead) {
  try {
    ReadFile("/no/such/text");
    FAIL() << "read a file that is not there";
  } catch (const std::system_error& error) {
    EXPECT_NE(std::string(error.what()).find("/no/such/text"), std::string::npos);
  }
  EXPECT_THROW(ReadFile("/tmp"), std::system_error) << "a folder is not a text";
}

}  // namespace
}  // namespace examples
