#include "checkpoint/cli/progress.h"

#include <gmock/gmock.h>

#include "checkpoint/cli/arguments.h"
#include "runtime/base/sim/sim_clock.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::cli {
namespace {

using base::kMiB;
using testing::HasSubstr;

TEST(ProgressTest, SaysHowFarItIsAndTakesTheLineAway) {
  base::SimClock clock;
  std::string written;
  Progress progress(
      clock, [&](const std::string& text) { written += text; }, 80, 10 * kMiB);
  progress.SetTotal(100 * kMiB);
  progress.Begin("default/gpt step 5");
  for (int i = 0; i < 5; ++i) progress.Take(10 * kMiB);  // waits on the simulated clock
  EXPECT_THAT(written, HasSubstr("\rdefault/gpt step 5: 10 % of 100.0 MiB"));
  EXPECT_THAT(written, HasSubstr("50 % of 100.0 MiB, 12.5 MiB/s, 4 s left"));
  EXPECT_DOUBLE_EQ(progress.seconds(), 4);
  written.clear();
  progress.Clear();
  EXPECT_EQ(written, "\r" + std::string(79, ' ') + "\r");
  progress.Clear();
  EXPECT_EQ(written.size(), 81U) << "nothing stood there";
}

TEST(ProgressTest, IsSilentWithoutATerminalAndKeepsTheRateAllTheSame) {
  base::SimClock clock;
  std::string written;
  Progress progress(
      clock, [&](const std::string& text) { written += text; }, std::nullopt, kMiB);
  for (int i = 0; i < 4; ++i) progress.Take(2 * kMiB);
  progress.Clear();
  EXPECT_EQ(written, "");
  EXPECT_DOUBLE_EQ(progress.seconds(), 6);
}

TEST(ProgressTest, DrawsAFewTimesASecondOnly) {
  base::SimClock clock;
  int lines = 0;
  Progress progress(
      clock, [&](const std::string&) { ++lines; }, 20, 100 * kMiB);
  for (int i = 0; i < 101; ++i) progress.Take(kMiB);  // one second
  EXPECT_EQ(lines, 6);
}

TEST(BytesTest, UnitsAreBinary) {
  const CommandSpec spec{"belay ckpt x", "", {{"rate", "BYTES", ""}}, 0, 0, ""};
  const auto parse = [&](const std::string& text) -> base::Result<std::optional<std::uint64_t>> {
    BELAY_ASSIGN(const Arguments arguments, Arguments::Parse(spec, {"--rate=" + text}));
    return arguments.GetBytes("rate", 10);
  };
  EXPECT_EQ(parse("4096")->value(), 4096U);
  EXPECT_EQ(parse("3K")->value(), 3U * 1024);
  EXPECT_EQ(parse("2M")->value(), 2 * kMiB);
  EXPECT_EQ(parse("1G")->value(), 1024 * kMiB);
  for (const char* bad : {"9", "-1", "M", "1KB", "8388608T", "x", "1.5G"}) EXPECT_FALSE(parse(bad)) << bad;
}

}  // namespace
}  // namespace belay::checkpoint::cli
