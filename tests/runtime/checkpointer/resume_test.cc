#include "runtime/checkpointer/resume.h"

#include <gtest/gtest.h>

namespace belay::runtime {
namespace {

checkpoint::RestorePoint Point(std::int64_t step, std::uint64_t generation, bool in_memory) {
  checkpoint::RestorePoint point;
  point.step = base::Step(step);
  point.generation = base::Generation(generation);
  point.in_memory = in_memory;
  point.world_size = 2;
  return point;
}

TEST(ResumeTest, TriesTheNewestFirstAndMemoryBeforeDisk) {
  std::vector<checkpoint::RestorePoint> points = {Point(10, 1, false), Point(20, 2, false), Point(20, 2, true),
                                                  Point(20, 1, true), Point(15, 3, true)};
  SortRestorePoints(points);
  const std::string expected = "20 2 1 2\n20 2 0 2\n20 1 1 2\n15 3 1 2\n10 1 0 2\n";
  EXPECT_EQ(EncodeRestorePoints(points), expected);
}

TEST(ResumeTest, TheListSurvivesItsJourneyToTheOtherRanks) {
  const std::string text = EncodeRestorePoints({Point(7, 3, true), Point(5, 1, false)});
  const auto points = DecodeRestorePoints(text);
  ASSERT_TRUE(points);
  EXPECT_EQ(EncodeRestorePoints(*points), text);
  EXPECT_TRUE(DecodeRestorePoints("")->empty());
  EXPECT_FALSE(DecodeRestorePoints("seven 3 1 2\n"));
}

}  // namespace
}  // namespace belay::runtime
