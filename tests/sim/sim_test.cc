// Runs seeds of the simulation. README.md beside this file.
//
//   sim_test                          the seeds that every change must pass, and the scenarios that must fail
//   sim_test --seed N                 one seed, with a trace of what happens
//   BELAY_SIM_SEEDS=count  BELAY_SIM_SEED=first   another number of seeds, others
#include <gtest/gtest.h>

#include <charconv>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>

#include <unistd.h>

#include "runtime/base/environment.h"
#include "runtime/base/log.h"
#include "tests/sim/simulation.h"

namespace belay::checkpoint::sim {
namespace {

constexpr std::uint64_t kFirstSeed = 1;
constexpr std::uint64_t kSeeds = 2000;
constexpr std::uint64_t kSeedsForCoverage = 1000;  // fewer need not see everything
constexpr std::uint64_t kRedMax = 5;
constexpr std::uint64_t kPlantedSeeds = 200;
constexpr std::uint64_t kOthers = 50;  // seeds in a process before one that must not notice

std::string program_path;
char seed_line[600];  // what the handler of an abort prints

std::string RepeatLine(std::uint64_t seed) { return base::Str("repeat with: ", program_path, " --seed ", seed); }

// A BELAY_CHECK of the daemon ends the program; the seed must be known.
void TellSeed(int signal) {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, seed_line, std::char_traits<char>::length(seed_line));
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

Simulated RunSeed(std::uint64_t seed, Plants plants, Coverage& coverage, bool tracing = false) {
  std::snprintf(seed_line, sizeof(seed_line), "%s\n", RepeatLine(seed).c_str());
  return Simulate(seed, plants, coverage, tracing);
}

std::size_t OpenDescriptors() {
  const std::filesystem::directory_iterator opened("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(opened), end(opened)));
}

std::optional<std::uint64_t> NumberFrom(const std::optional<std::string>& text) {
  std::uint64_t number = 0;
  if (!text || text->empty()) return std::nullopt;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (error != std::errc() || end != text->data() + text->size()) {
    std::cerr << "'" << *text << "' is not a number\n";
    std::exit(64);
  }
  return number;
}

std::string WorldLine(std::uint64_t digest) { return base::Str("world ", digest, "\n"); }

// What the line that repeats a seed prints, without the daemon's own log, which has the time of day.
std::string Repeated(std::uint64_t seed) {
  std::FILE* const pipe = ::popen(base::Str("'", program_path, "' --seed ", seed, " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return "popen failed";
  std::string printed;
  std::string line;
  for (int c = std::fgetc(pipe); c != EOF; c = std::fgetc(pipe)) {
    line += static_cast<char>(c);
    if (c != '\n') continue;
    if (!line.starts_with("20")) printed += line;
    line.clear();
  }
  return printed + base::Str("status ", ::pclose(pipe));
}

TEST(SimTest, ASeedIsAlwaysTheSameWorld) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const std::string world = Repeated(seed);
    EXPECT_NE(world.find("nothing was violated"), std::string::npos) << "seed " << seed;
    EXPECT_EQ(world, Repeated(seed)) << "seed " << seed;
  }
}

// Nothing of a world stays behind in the process: not in a counter, not in an order of addresses, not as a descriptor.
TEST(SimTest, ASeedIsTheSameWorldAfterManyOthers) {
  Coverage coverage;
  const std::size_t opened = OpenDescriptors();
  for (std::uint64_t seed = 1; seed <= kOthers; ++seed) RunSeed(seed, {}, coverage);
  for (std::uint64_t seed = kOthers + 1; seed <= kOthers + 20; ++seed) {
    const Simulated here = RunSeed(seed, {}, coverage);
    EXPECT_NE(Repeated(seed).find(WorldLine(here.digest)), std::string::npos) << "seed " << seed;
  }
  EXPECT_EQ(OpenDescriptors(), opened);
}

// Each of these must be found, or the checkers are blind.
std::string SomeViolation(Plants plants) {
  Coverage coverage;
  std::string violation;
  for (std::uint64_t seed = 1; seed <= kPlantedSeeds && violation.empty(); ++seed) {
    violation = RunSeed(seed, plants, coverage).violation;
    if (!violation.empty()) std::cout << "seed " << seed << ": " << violation << "\n";
  }
  return violation;
}
TEST(SimTest, EverySeedKeepsThePromises) {
  const std::uint64_t first = NumberFrom(base::GetEnvironment("BELAY_SIM_SEED")).value_or(kFirstSeed);
  const std::uint64_t count = NumberFrom(base::GetEnvironment("BELAY_SIM_SEEDS")).value_or(kSeeds);
  Coverage coverage;
  std::uint64_t red = 0;
  for (std::uint64_t seed = first; seed < first + count && red < kRedMax; ++seed) {
    const std::string violation = RunSeed(seed, {}, coverage).violation;
    if (violation.empty()) continue;
    ++red;
    ADD_FAILURE() << "seed " << seed << ": " << violation << "\n" << RepeatLine(seed);
  }
  std::cout << coverage.Table();
  if (count < kSeedsForCoverage) return;
  EXPECT_EQ(coverage.Missing(), "");
}

TEST(SimTest, ADiskThatLiesAboutSyncsIsSeen) { EXPECT_NE(SomeViolation({.lie = Lie::kSync}), ""); }
TEST(SimTest, ADiskThatLiesAboutFolderSyncsIsSeen) { EXPECT_NE(SomeViolation({.lie = Lie::kFolderSync}), ""); }
TEST(SimTest, ADiskThatStoresOtherBytesIsSeen) { EXPECT_NE(SomeViolation({.lie = Lie::kBytes}), ""); }
TEST(SimTest, ACheckpointThatMixesTwoStepsIsSeen) { EXPECT_NE(SomeViolation({.stale_bytes = true}), ""); }

}  // namespace

int Main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  program_path = argv[0];
  std::optional<std::uint64_t> seed;
  for (int i = 1; i < argc; ++i) {
    if (std::string_view(argv[i]) != "--seed" || i + 1 == argc) {
      std::cerr << "sim_test understands --seed N, not '" << argv[i] << "'\n";
      return 64;
    }
    seed = NumberFrom(std::string(argv[++i]));
  }
  std::signal(SIGABRT, TellSeed);
  // The daemon's log belongs to the trace of one seed; of thousands nobody reads it.
  base::IgnoreError(base::StartLogging({.program = "belayd",
                                        .path = seed ? "" : "/dev/null",
                                        .level = seed ? base::LogLevel::kInfo : base::LogLevel::kError}),
                    "then it goes to stderr");
  if (!seed) return RUN_ALL_TESTS();
  Coverage coverage;
  const auto [violation, digest] = RunSeed(*seed, {}, coverage, true);
  std::cout << coverage.Table() << WorldLine(digest)
            << (violation.empty() ? "nothing was violated" : "violated: " + violation) << "\n";
  return violation.empty() ? 0 : 1;
}

}  // namespace belay::checkpoint::sim

int main(int argc, char** argv) { return belay::checkpoint::sim::Main(argc, argv); }
