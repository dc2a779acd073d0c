#include "runtime/base/fault_points.h"

#include <signal.h>

#include <algorithm>
#include <cstdlib>

#include "runtime/base/sim/mem_file_system.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

constexpr const char* kPoint = "file.durable.after_sync";

class FaultPointsTest : public testing::Test {
 protected:
  void TearDown() override { DisarmFaults(); }
  static FaultPointInfo Info(std::string_view name) {
    const auto points = ListFaultPoints();
    const auto found = std::ranges::find(points, name, &FaultPointInfo::name);
    EXPECT_NE(found, points.end());
    return found == points.end() ? FaultPointInfo{} : *found;
  }
};

TEST_F(FaultPointsTest, PassesWhileDisarmed) {
  DisarmFaults();
  EXPECT_OK(FaultPoint(kPoint));
}

TEST_F(FaultPointsTest, EveryPointHasAMeaning) {
  for (const FaultPointInfo& point : ListFaultPoints()) EXPECT_FALSE(point.meaning.empty()) << point.name;
}

TEST_F(FaultPointsTest, FailsAsAskedAndCounts) {
  ASSERT_OK(
      ArmFaults("file.durable.after_sync=nospace,file.durable.after_write=io,file.durable.after_rename=unavailable"));
  EXPECT_CODE(FaultPoint(kPoint), kNoSpace);
  EXPECT_CODE(FaultPoint(kPoint), kNoSpace);
  EXPECT_CODE(FaultPoint("file.durable.after_write"), kIo);
  EXPECT_CODE(FaultPoint("file.durable.after_rename"), kUnavailable);
  EXPECT_EQ(Info(kPoint).passed, 2U);
  EXPECT_EQ(Info(kPoint).fired, 2U);
}

TEST_F(FaultPointsTest, FiresAtTheNamedPassageOnly) {
  ASSERT_OK(ArmFaults("file.durable.after_sync=io@2"));
  EXPECT_OK(FaultPoint(kPoint));
  EXPECT_CODE(FaultPoint(kPoint), kIo);
  EXPECT_OK(FaultPoint(kPoint));
  EXPECT_EQ(Info(kPoint).passed, 3U);
  EXPECT_EQ(Info(kPoint).fired, 1U);
}

TEST_F(FaultPointsTest, AsksWhoDecidesInPlaceOfAPlan) {
  ASSERT_OK(ArmFaults("file.durable.after_sync=io"));
  std::string asked;
  DecideFaults([&](std::string_view name) -> Status {
    asked = name;
    return name == "index.write" ? Fail(Code::kNoSpace, "decided") : Status();
  });
  EXPECT_OK(FaultPoint(kPoint));
  EXPECT_EQ(asked, kPoint);
  EXPECT_CODE(FaultPoint("index.write"), kNoSpace);
  DisarmFaults();
  EXPECT_OK(FaultPoint("index.write"));
}

TEST_F(FaultPointsTest, RefusesBadPlans) {
  for (const char* plan : {"file.durable.after_sync", "no.such.point=io", "file.durable.after_sync=explode",
                           "file.durable.after_sync=io@0", "file.durable.after_sync=io@x",
                           "file.durable.after_sync=io@", ",", "file.durable.after_sync=io,,"}) {
    EXPECT_CODE(ArmFaults(plan), kInvalidArgument) << plan;
  }
}

TEST_F(FaultPointsTest, ABadPlanChangesNothing) {
  ASSERT_OK(ArmFaults("file.durable.after_sync=io"));
  EXPECT_CODE(ArmFaults("no.such.point=io"), kInvalidArgument);
  EXPECT_CODE(FaultPoint(kPoint), kIo);
}

TEST_F(FaultPointsTest, AFailedDurableWriteLeavesTheOldFileAndNoOther) {
  MemFileSystem files;
  ASSERT_OK(WriteFileDurably(files, "/a", "old"));
  for (const char* plan : {"file.durable.after_write=io", "file.durable.after_sync=nospace"}) {
    ASSERT_OK(ArmFaults(plan));
    EXPECT_FALSE(WriteFileDurably(files, "/a", "new").has_value());
    EXPECT_EQ(*ReadWholeFile(files, "/a", 10), "old");
    EXPECT_THAT(*files.List("/"), testing::ElementsAre("a"));
  }
}

TEST(FaultPointsDeathTest, KillsTheProcess) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(
      {
        IgnoreError(ArmFaults("file.durable.after_sync=kill"), "the test sees it");
        IgnoreError(FaultPoint(kPoint), "never returns");
      },
      testing::KilledBySignal(SIGKILL), "");
}

TEST(FaultPointsDeathTest, AnUnknownNameIsABug) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        IgnoreError(ArmFaults("file.durable.after_sync=io"), "the test sees it");
        IgnoreError(FaultPoint("no.such.point"), "never returns");
      },
      "no.such.point is not in fault_points.cc");
}

TEST(FaultPointsDeathTest, TheEnvironmentArms) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  ::setenv("BELAY_FAULTS", "file.durable.after_write=kill", 1);
  EXPECT_EXIT(IgnoreError(FaultPoint("file.durable.after_write"), "never returns"), testing::KilledBySignal(SIGKILL),
              "");
  ::setenv("BELAY_FAULTS", "nonsense", 1);
  EXPECT_DEATH(IgnoreError(FaultPoint("file.durable.after_write"), "never returns"), "BELAY_FAULTS");
  ::unsetenv("BELAY_FAULTS");
}

}  // namespace
}  // namespace belay::base
