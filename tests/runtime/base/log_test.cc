#include "runtime/base/log.h"

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

class LogTest : public testing::Test {
 protected:
  void TearDown() override {
    ::unsetenv("BELAY_LOG");
    EXPECT_OK(StartLogging({.program = "base_test"}));
  }
  void Start(bool json, LogLevel level = LogLevel::kInfo) {
    EXPECT_OK(StartLogging({.program = "belayd", .path = path_, .json = json, .level = level}));
  }
  std::vector<std::string> Lines() {
    std::istringstream text(*ReadWholeFile(PosixFileSystem(), path_, 1 << 20));
    std::vector<std::string> lines;
    for (std::string line; std::getline(text, line);) lines.push_back(line);
    return lines;
  }

  ScratchFolder folder_;
  std::string path_ = folder_ / "log";
};

constexpr const char* kTime = "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z";

TEST_F(LogTest, TextFormIsOneLineAnEvent) {
  Start(false);
  LogInfo("committed", {{"step", 1200}, {"seconds", 1.25}, {"whole", true}, {"job", "gpt"}});
  EXPECT_THAT(Lines(), testing::ElementsAre(testing::MatchesRegex(
                           Str(kTime, " info    belayd committed step=1200 seconds=1.25 whole=true job=gpt"))));
}

TEST_F(LogTest, AFullFileIsRenamedAndANewOneBegun) {
  EXPECT_OK(StartLogging({.program = "belayd", .path = folder_ / "b.log", .bytes_max = 4096}));
  for (int i = 0; i < 300; ++i) LogInfo("line", {{"number", i}});
  const auto size = [&](std::string_view name) { return PosixFileSystem().Stat(folder_ / name)->size_bytes; };
  EXPECT_LE(size("b.log"), 4096U);
  EXPECT_LE(size("b.1.log"), 4096U);
  EXPECT_THAT(*PosixFileSystem().List(folder_.path()), testing::UnorderedElementsAre("b.1.log", "b.log"));
}

TEST_F(LogTest, TextValuesCannotForgeLinesOrFields) {
  Start(false);
  LogError("failed", {{"why", "no space\nfake=1 \"x\""}, {"empty", ""}});
  ASSERT_EQ(Lines().size(), 1U);
  EXPECT_THAT(Lines()[0], testing::EndsWith(R"(failed why="no space\nfake=1 \"x\"" empty="")"));
}

TEST_F(LogTest, JsonFormIsAnObjectALine) {
  Start(true);
  LogWarning("slow",
             {{"seconds", 2.5}, {"count", 3}, {"bytes", std::string("\xFF\n")}, {"nan", std::nan("")}, {"ok", false}});
  const auto lines = Lines();
  ASSERT_EQ(lines.size(), 1U);
  const auto json = nlohmann::json::parse(lines[0]);
  EXPECT_EQ(json["level"], "warning");
  EXPECT_EQ(json["program"], "belayd");
  EXPECT_EQ(json["event"], "slow");
  EXPECT_EQ(json["seconds"], 2.5);
  EXPECT_EQ(json["count"], 3);
  EXPECT_EQ(json["ok"], false);
  EXPECT_TRUE(json["nan"].is_null());
  EXPECT_THAT(json["time"].get<std::string>(), testing::MatchesRegex(kTime));
}

TEST_F(LogTest, TheLevelHoldsBackAndTheEnvironmentDecides) {
  Start(false, LogLevel::kWarning);
  LogInfo("hidden");
  LogWarning("shown");
  EXPECT_EQ(Lines().size(), 1U);
  ::setenv("BELAY_LOG", "debug", 1);
  Start(false, LogLevel::kWarning);
  LogDebug("now shown");
  EXPECT_EQ(Lines().size(), 2U);
}

TEST_F(LogTest, LinesOfThreadsDoNotMix) {
  Start(true);
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([] {
        for (int i = 0; i < 50; ++i) LogInfo("event", {{"text", std::string(200, 'x')}});
      });
    }
  }
  EXPECT_EQ(Lines().size(), 200U);
  for (const std::string& line : Lines()) EXPECT_TRUE(nlohmann::json::accept(line)) << line;
}

TEST_F(LogTest, AFileThatCannotBeOpenedIsAnError) {
  EXPECT_CODE(StartLogging({.program = "x", .path = "/proc/no/such/log"}), kIo);
}

}  // namespace
}  // namespace belay::base
