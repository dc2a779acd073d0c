#include "runtime/metrics/metrics_files.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/base/fault/faulty_file_system.h"
#include "runtime/base/sim/mem_file_system.h"
#include "runtime/base/sim/sim_clock.h"

namespace belay::runtime {
namespace {

class MetricsFilesTest : public testing::Test {
 protected:
  std::string Lines() { return base::ReadWholeFile(memory_, "/run/metrics.jsonl", 1 << 20).value(); }
  base::MemFileSystem memory_;
  base::FaultyFileSystem files_{memory_};
  base::SimClock clock_;
};

TEST_F(MetricsFilesTest, WritesALineWithSeventeenDigits) {
  MetricsFiles metrics(files_, clock_, "/run", "host.1");
  metrics.Scalars(7, {{"loss", 0.1}, {"bad", std::nan("")}});
  const std::string line = Lines();
  EXPECT_NE(line.find("\"step\":7,\"loss\":0.10000000000000001,\"bad\":null}\n"), std::string::npos) << line;
}

TEST_F(MetricsFilesTest, AddsToTheLinesOfAnEarlierAttempt) {
  { MetricsFiles(files_, clock_, "/run", "host.1").Scalars(1, {{"loss", 1}}); }
  { MetricsFiles(files_, clock_, "/run", "host.2").Scalars(2, {{"loss", 2}}); }
  const std::string lines = Lines();
  EXPECT_NE(lines.find("\"step\":1,"), std::string::npos);
  EXPECT_NE(lines.find("\"step\":2,"), std::string::npos);
}

TEST_F(MetricsFilesTest, FullDiskEndsTheFilesWithOneWarning) {
  MetricsFiles metrics(files_, clock_, "/run", "host.1");
  metrics.Scalars(1, {{"loss", 1}});
  files_.Add({.path_contains = "metrics.jsonl", .code = base::Code::kNoSpace, .count = 1});
  testing::internal::CaptureStderr();
  metrics.Scalars(2, {{"loss", 2}});
  metrics.Scalars(3, {{"loss", 3}});  // would go well again, but a hole in the curve is worse than its end
  metrics.Text(3, "sample", "x");
  const std::string words = testing::internal::GetCapturedStderr();
  EXPECT_FALSE(metrics.Writing());
  EXPECT_EQ(Lines().find("\"step\":3,"), std::string::npos);
  const auto first = words.find("no more metrics files");
  ASSERT_NE(first, std::string::npos) << words;
  EXPECT_EQ(words.find("no more metrics files", first + 1), std::string::npos) << words;
}

TEST_F(MetricsFilesTest, NoFolderMeansNoFiles) {
  MetricsFiles metrics(files_, clock_, "", "host.1");
  EXPECT_FALSE(metrics.Writing());
  metrics.Scalars(1, {{"loss", 1}});
}

TEST(MetricsFormatTest, TimesAreUtcWithMilliseconds) {
  EXPECT_EQ(FormatUtc(base::WallTime(std::chrono::milliseconds(1'790'000'000'045))), "2026-09-21T14:13:20.045Z");
}

TEST(MetricsFormatTest, StringsAreEscapedAndAlwaysUtf8) {
  EXPECT_EQ(JsonString("a\"b\n"), "\"a\\\"b\\n\"");
  EXPECT_EQ(JsonString("\xFF"), "\"\xEF\xBF\xBD\"");
}

}  // namespace
}  // namespace belay::runtime
