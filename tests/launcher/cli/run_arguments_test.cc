#include "launcher/cli/run_arguments.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/cli/environment_table.h"
#include "runtime/base/rng.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::StartsWith;

RunHost Host() {
  RunHost host;
  host.host_name = "node7.cluster";
  host.working_directory = "/home/u";
  host.now = base::WallTime(std::chrono::seconds(1'800'000'000));
  host.random = 0xABCD;
  host.resolve_data_dir = [](const std::optional<std::string>& flag) {
    return base::Result<std::string>(flag.value_or("/data"));
  };
  host.read_file = [](const std::string& path) -> base::Result<std::string> {
    if (path == "/home/u/hosts") return std::string("# ours\nlocalhost slots=2\nnode7 slots=1 max_slots=4\n");
    return base::Fail(base::Code::kNotFound, "no file ", path);
  };
  return host;
}
base::Result<RunArguments> Parse(std::vector<std::string> args, RunHost host = Host()) {
  return ParseRunArguments(args, host);
}
std::string Complaint(std::vector<std::string> args) {
  const auto parsed = Parse(std::move(args));
  return parsed ? "none" : parsed.error().message;
}

TEST(RunArgumentsTest, TakesMpirunsSpellings) {
  for (const std::vector<std::string>& words : {std::vector<std::string>{"-n", "4"},
                                                {"-np", "4"},
                                                {"--np", "4"},
                                                {"-n4"},
                                                {"--np=4"},
                                                {"-N", "4"},
                                                {"-H", "localhost:4"},
                                                {"--host", "localhost:1,node7:3"},
                                                {"-n", "4", "--oversubscribe", "--tag-output"}}) {
    std::vector<std::string> args = words;
    args.insert(args.end(), {"prog", "-n", "9"});
    const auto parsed = Parse(args);
    ASSERT_TRUE(parsed) << words[0] << ": " << parsed.error().message;
    EXPECT_EQ(parsed->options.ranks, 4) << words[0];
    EXPECT_THAT(parsed->options.program, ElementsAre("prog", "-n", "9"));
  }
}

TEST(RunArgumentsTest, DefaultsAreSaidInTheHelp) {
  const auto parsed = Parse({"./train gpt.py"});
  ASSERT_TRUE(parsed);
  const RunOptions& o = parsed->options;
  EXPECT_EQ(o.ranks, 1);
  EXPECT_EQ(o.grace_seconds, 60);
  EXPECT_EQ(o.max_restarts, 3);
  EXPECT_EQ(o.project, "default");
  EXPECT_EQ(o.data_dir, "/data");
  EXPECT_EQ(o.working_directory, "/home/u");
  EXPECT_EQ(o.job, "train-gpt.py-20270115-080000-abcd");
  EXPECT_FALSE(o.job_named_by_user);
}

TEST(RunArgumentsTest, SeveralDataFoldersAreResolvedOneByOne) {
  const auto parsed = Parse({"--also-data-dir", "/nvme1", "--also-data-dir=/nvme2", "prog"});
  ASSERT_TRUE(parsed) << parsed.error().Text();
  EXPECT_THAT(parsed->options.also_data_dirs, ElementsAre("/nvme1", "/nvme2"));
  EXPECT_TRUE(Parse({"prog"})->options.also_data_dirs.empty());
}

TEST(RunArgumentsTest, OneRankPerGpu) {
  RunHost host = Host();
  host.gpus = 8;
  EXPECT_EQ(Parse({"prog"}, host)->options.ranks, 8);
  EXPECT_EQ(Parse({"-n", "2", "prog"}, host)->options.ranks, 2);
}

TEST(RunArgumentsTest, CollectsRepeatableOptions) {
  const auto parsed = Parse({"-x", "A", "-x", "B=c=d", "--mca", "btl", "self", "-mca", "pml", "ob1", "--", "p"});
  ASSERT_TRUE(parsed);
  EXPECT_THAT(parsed->options.exports,
              ElementsAre(Pair("A", std::nullopt), Pair("B", std::optional<std::string>("c=d"))));
  EXPECT_THAT(parsed->options.mca, ElementsAre(Pair("btl", "self"), Pair("pml", "ob1")));
}

TEST(RunArgumentsTest, WhatBelaySetsForEveryRankCannotBeExported) {
  std::size_t refused = 0;
  for (const EnvironmentVariable& v : EnvironmentTable()) {
    if (v.side != "rank") continue;
    const std::string complaint = Complaint({"-x", base::Str(v.name, "=1"), "p"});
    if (complaint == "none") {
      EXPECT_THAT(v.name, testing::AnyOf("MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "PYTHONUNBUFFERED"));
    } else {
      EXPECT_THAT(complaint, HasSubstr(base::Str("-x ", v.name, ": belay sets")));
      ++refused;
    }
  }
  EXPECT_GE(refused, 15U);
  EXPECT_THAT(Complaint({"-x", "BELAY_ATTEMPT", "p"}), HasSubstr("belay sets")) << "without a value too";
  EXPECT_THAT(Complaint({"-x", "BELAY_SCRATCH=/", "p"}), HasSubstr("belay sets"));
  EXPECT_EQ(Complaint({"-x", "BELAY_DEVICE=cpu", "p"}), "none");
  EXPECT_THAT(Complaint({"-x", "caf\xE9=1", "p"}), HasSubstr("printable ASCII"));
  EXPECT_EQ(Complaint({"-x", "VALUE=caf\xE9", "p"}), "none");
}

TEST(RunArgumentsTest, EnvironmentGivesDefaultsAndOptionsWin) {
  RunHost host = Host();
  host.environment = {{"BELAY_GRACE_SECONDS", "5m"}, {"BELAY_PROJECT", "team"}};
  EXPECT_EQ(Parse({"p"}, host)->options.grace_seconds, 300);
  EXPECT_EQ(Parse({"p"}, host)->options.project, "team");
  EXPECT_EQ(Parse({"--grace=7", "p"}, host)->options.grace_seconds, 7);
  host.environment = {{"BELAY_GRACE_SECONDS", "abc"}};
  EXPECT_THAT(Parse({"p"}, host).error().Text(), StartsWith("BELAY_GRACE_SECONDS wants seconds"));
  EXPECT_THAT(Parse({"--grace=abc", "p"}, host).error().Text(), StartsWith("--grace wants seconds"));
  host.environment = {{"BELAY_PROGRESS", "sometimes"}};
  EXPECT_THAT(Parse({"p"}, host).error().Text(), StartsWith("BELAY_PROGRESS wants auto"));
}

// Found by fuzzing.
TEST(RunArgumentsTest, AHostListOrFileThatContradictsItselfIsRefused) {
  for (const char* list : {"", "localhost,", ",localhost", "localhost:1,,node7"}) {
    EXPECT_FALSE(SlotsFromHostList(list, "node7")) << list;
  }
  for (const char* text : {"localhost slots=2 slots=3", "localhost max_slots=many", "localhost slots=4 max_slots=2",
                           "localhost max-slots=2 max_slots=2", "localhost slots"}) {
    EXPECT_FALSE(SlotsFromHostfile(text, "node7")) << text;
  }
  EXPECT_EQ(SlotsFromHostfile("localhost slots=2 max-slots=2\n", "node7"), 2);
}

TEST(RunArgumentsTest, HostfileOfThisHost) {
  EXPECT_EQ(Parse({"--hostfile", "hosts", "p"})->options.ranks, 3);
  EXPECT_THAT(Complaint({"--hostfile", "nope", "p"}), HasSubstr("/home/u/nope"));
}

TEST(RunArgumentsTest, ComplaintsSayWhatIsRight) {
  EXPECT_THAT(Complaint({"-n", "0", "p"}), HasSubstr("whole number from 1"));
  EXPECT_THAT(Complaint({"-n", "4x", "p"}), HasSubstr("'4x'"));
  EXPECT_THAT(Complaint({"-n", "2", "-n", "3", "p"}), HasSubstr("given twice"));
  EXPECT_THAT(Complaint({"--max-restart", "3", "p"}), HasSubstr("did you mean --max-restarts?"));
  EXPECT_THAT(Complaint({"--grave", "3", "p"}), HasSubstr("did you mean --grace?"));
  EXPECT_THAT(Complaint({"-nq", "p"}), HasSubstr("unknown option -nq"));
  EXPECT_THAT(Complaint({"--json=yes", "p"}), HasSubstr("takes no value"));
  EXPECT_THAT(Complaint({"--mca", "btl", "--", "p"}), HasSubstr("needs KEY VALUE"));
  EXPECT_THAT(Complaint({"-H", "node9", "p"}), HasSubstr("node9"));
  EXPECT_THAT(Complaint({"-n", "5", "-N", "2", "p"}), HasSubstr("does not fit"));
  EXPECT_THAT(Complaint({"--job", ".x", "p"}), HasSubstr("no name"));
  EXPECT_THAT(Complaint({"--job", "a/b", "p"}), HasSubstr("no name"));
  EXPECT_THAT(Complaint({"--grace", "-1", "p"}), HasSubstr("wants seconds"));
  EXPECT_THAT(Complaint({"--grace", "1e999", "p"}), HasSubstr("wants seconds"));
  EXPECT_THAT(Complaint({"--progress", "often", "p"}), HasSubstr("auto, always or never"));
  EXPECT_THAT(Complaint({}), HasSubstr("no program"));
  EXPECT_THAT(Complaint({"-n", "2", "--"}), HasSubstr("no program"));
  EXPECT_THAT(Complaint({"-n"}), HasSubstr("needs RANKS"));
}

TEST(RunArgumentsTest, WordsAfterTheProgramAreTheProgramsOwn) {
  EXPECT_THAT(Parse({"p", "--help", "--", "-x"})->options.program, ElementsAre("p", "--help", "--", "-x"));
  EXPECT_TRUE(Parse({"--help"})->help);
}

// Seeded garbage: every command line parses or is complained about, and what parses holds what it promises.
TEST(RunArgumentsTest, GarbageParsesOrIsRefused) {
  const std::vector<std::string> words = {"-n",
                                          "-np",
                                          "4",
                                          "--",
                                          "-",
                                          "",
                                          "--job",
                                          "a",
                                          "-x",
                                          "A=b",
                                          "=",
                                          "--mca",
                                          "k",
                                          "--grace",
                                          "1s",
                                          "--grace=",
                                          "--=",
                                          "-H",
                                          "localhost:2",
                                          "localhost:",
                                          ":",
                                          "--hostfile",
                                          "hosts",
                                          "--json",
                                          "--timeout",
                                          "\xff\xfe",
                                          "-n99999999999999999999",
                                          "--no",
                                          "prog",
                                          "--progress=never",
                                          "-N",
                                          "--max-restarts",
                                          "-1",
                                          "--wdir",
                                          "../x",
                                          "--data-dir",
                                          "d"};
  std::size_t accepted = 0;
  for (std::uint64_t seed = 1; seed <= 20000; ++seed) {
    base::Rng rng(seed);
    std::vector<std::string> args;
    for (std::uint64_t i = rng.Below(8); i > 0; --i) {
      std::string word = words[rng.Below(words.size())];
      if (rng.Below(4) == 0 && !word.empty()) word[rng.Below(word.size())] = static_cast<char>(rng.Below(256));
      args.push_back(std::move(word));
    }
    const auto parsed = Parse(args);
    if (!parsed) {
      EXPECT_FALSE(parsed.error().message.empty()) << "seed " << seed;
      continue;
    }
    if (parsed->help) continue;
    ++accepted;
    EXPECT_GE(parsed->options.ranks, 1) << "seed " << seed;
    EXPECT_FALSE(parsed->options.program.empty()) << "seed " << seed;
    EXPECT_FALSE(parsed->options.job.empty()) << "seed " << seed;
    EXPECT_GE(parsed->options.grace_seconds, 0) << "seed " << seed;
  }
  EXPECT_GT(accepted, 1000U);  // or the garbage is too poor to mean anything
}

TEST(OptionsTest, EveryRunOptionIsInTheHelp) {
  const std::string help = RenderOptions(RunOptionSpecs());
  for (const OptionSpec& spec : RunOptionSpecs()) EXPECT_THAT(help, HasSubstr(std::string(spec.name)));
  EXPECT_THAT(help, HasSubstr("[BELAY_DATA_DIR]"));
}

TEST(OptionsTest, ReadsTimesAsPeopleWriteThem) {
  EXPECT_EQ(*ParseSeconds("--t", "90"), 90);
  EXPECT_EQ(*ParseSeconds("--t", "1.5m"), 90);
  EXPECT_EQ(*ParseSeconds("--t", "2h"), 7200);
  for (const char* text : {"", "s", "x", "1x", "nan", "inf", "-5", "1e5", "99999h"})
    EXPECT_FALSE(ParseSeconds("--t", text)) << text;
}

}  // namespace
}  // namespace belay::launcher
