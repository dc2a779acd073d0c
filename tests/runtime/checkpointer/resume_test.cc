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

TEST(ResumeTest, TriesEachPointFromMemoryAndThenFromDisk) {
  checkpoint::RestorePoint unwritten = Point(15, 3, true);
  unwritten.committed = false;  // its disk failed: there is no second copy
  const auto candidates = RestoreCandidates({unwritten, Point(20, 2, true), Point(10, 1, false)});
  EXPECT_EQ(EncodeRestorePoints(candidates), "15 3 1 2 0\n20 2 1 2 1\n20 2 0 2 1\n10 1 0 2 1\n");
}

TEST(ResumeTest, TheListSurvivesItsJourneyToTheOtherRanks) {
  const std::string text = EncodeRestorePoints({Point(7, 3, true), Point(5, 1, false)});
  const auto points = DecodeRestorePoints(text);
  ASSERT_TRUE(points);
  EXPECT_EQ(EncodeRestorePoints(*points), text);
  EXPECT_TRUE(DecodeRestorePoints("")->empty());
  EXPECT_FALSE(DecodeRestorePoints("seven 3 1 2 1\n"));
  EXPECT_FALSE(DecodeRestorePoints("7 3 1 2\n")) << "a field is missing";
}

}  // namespace
}  // namespace belay::runtime
