#include "launcher/run/run_ending.h"

#include <gmock/gmock.h>

#include <csignal>

#include "launcher/cli/run_arguments.h"
#include "launcher/run/mpirun_command.h"

namespace belay::launcher {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

RunHost Host() {
  RunHost host;
  host.host_name = "node7";
  host.working_directory = "/home/u";
  host.resolve_data_dir = [](const std::optional<std::string>& flag) {
    return base::Result<std::string>(flag.value_or("/data"));
  };
  return host;
}

RunOptions Options(std::vector<std::string> words) {
  auto parsed = ParseRunArguments(words, Host());
  EXPECT_TRUE(parsed) << parsed.error().message;
  return parsed ? parsed->options : RunOptions();
}

SupervisorState Ended(Outcome outcome, int status, std::string reason) {
  SupervisorState state;
  state.verdict = {outcome, status, std::move(reason)};
  return state;
}

TEST(ResumeCommandTest, NamesTheJobAndQuotesForAShell) {
  RunOptions options;
  options.ranks = 2;
  options.job = "gpt-1";
  options.program = {"./train", "--data", "a b"};
  EXPECT_EQ(ShellCommand(ResumeCommand(options)), "belay run -n 2 --job gpt-1 -- ./train --data 'a b'");
}

TEST(ResumeCommandTest, ParsesToTheSameOptions) {
  const RunOptions first = Options({"-n",
                                    "3",
                                    "--job",
                                    "j",
                                    "--project",
                                    "p",
                                    "--data-dir",
                                    "/d",
                                    "--also-data-dir",
                                    "/e",
                                    "--also-data-dir",
                                    "/f",
                                    "--socket",
                                    "/s",
                                    "--log-dir",
                                    "logs",
                                    "--wdir",
                                    "w",
                                    "-x",
                                    "A=1 2",
                                    "-x",
                                    "B",
                                    "--mca",
                                    "btl",
                                    "self",
                                    "--grace",
                                    "90",
                                    "--launch-timeout",
                                    "1.5",
                                    "--max-restarts",
                                    "7",
                                    "--timeout",
                                    "1234567.25",
                                    "--progress",
                                    "always",
                                    "--quiet",
                                    "--json",
                                    "--",
                                    "./t",
                                    "-x",
                                    "--job"});
  std::vector<std::string> words = ResumeCommand(first);
  ASSERT_EQ(words[1], "run");
  const RunOptions again = Options({words.begin() + 2, words.end()});
  EXPECT_EQ(ResumeCommand(again), words);
  EXPECT_EQ(again.ranks, 3);
  EXPECT_EQ(again.log_dir, first.log_dir);
  EXPECT_EQ(again.working_directory, "/home/u/w");
  EXPECT_EQ(again.also_data_dirs, (std::vector<std::string>{"/e", "/f"}));
  EXPECT_EQ(again.exports, first.exports);
  EXPECT_EQ(again.mca, first.mca);
  EXPECT_EQ(again.grace_seconds, 90);
  EXPECT_EQ(again.launch_timeout_seconds, 1.5);
  EXPECT_EQ(again.max_restarts, 7);
  EXPECT_EQ(again.timeout_seconds, 1234567.25);
  EXPECT_EQ(again.progress, ProgressMode::kAlways);
  EXPECT_TRUE(again.quiet && again.json);
  EXPECT_EQ(again.program, first.program);
}

TEST(EndingWordsTest, AStoppedRunSaysHowToGoOn) {
  const RunOptions options = Options({"--job", "j", "--", "./t"});
  EXPECT_THAT(
      EndingWords(Ended(Outcome::kPreempted, 75, "stopped by SIGTERM"), options, 40, 3),
      ElementsAre("belay: stopped by SIGTERM (exit status 75)\n",
                  "belay: the newest checkpoint is of step 40; continue with: belay run -n 1 --job j -- ./t\n"));
}

TEST(EndingWordsTest, AFreshJobIsNamedEvenIfNothingWasSaved) {
  const auto lines = EndingWords(Ended(Outcome::kPreempted, 75, "stopped"), Options({"--", "./t"}), std::nullopt, 3);
  ASSERT_EQ(lines.size(), 2U);
  EXPECT_THAT(lines[1], HasSubstr("run it again with: belay run -n 1 --job t-"));
}

TEST(EndingWordsTest, WhatTheRanksSavedCountsWhereBelaydCannotBeAsked) {
  SupervisorState state = Ended(Outcome::kPreempted, 75, "stopped");
  state.ranks.resize(1);
  state.ranks[0].progress.committed_step = 30;
  EXPECT_THAT(EndingWords(state, Options({"--job", "j", "--", "./t"}), std::nullopt, 3)[1], HasSubstr("step 30"));
}

TEST(EndingWordsTest, AFailureThatWouldComeAgainIsToBeMendedFirst) {
  for (const int status : {64, 65, 66, 126, 127}) {
    const SupervisorState state = Ended(Outcome::kFailed, status, "rank 0");
    EXPECT_THAT(EndingWords(state, Options({"--job", "j", "--", "./t"}), 40, 3).back(),
                HasSubstr("step 40; once that is mended, continue with: belay run"))
        << status;
  }
  EXPECT_THAT(EndingWords(Ended(Outcome::kFailed, 23, "rank 0"), Options({"--job", "j", "--", "./t"}), 40, 3).back(),
              HasSubstr("step 40; continue with: belay run"));
}

TEST(EndingWordsTest, AFreshJobIsNamedWhateverEndedIt) {
  for (const Outcome outcome :
       {Outcome::kPreempted, Outcome::kStoppedUnsaved, Outcome::kFailed, Outcome::kInterrupted}) {
    EXPECT_THAT(EndingWords(Ended(outcome, 1, "ended"), Options({"--", "./t"}), std::nullopt, 3).back(),
                HasSubstr("run it again with: belay run -n 1 --job t-"))
        << Name(outcome);
    EXPECT_THAT(EndingWords(Ended(outcome, 1, "ended"), Options({"--job", "j", "--", "./t"}), std::nullopt, 3),
                testing::SizeIs(1))
        << Name(outcome) << ": nothing is saved, and the name is known";
  }
}

TEST(EndingWordsTest, AFailureThatHasBeenReportedIsNotSaidTwice) {
  SupervisorState state = Ended(Outcome::kFailed, 23, "rank 0 exited with status 23");
  state.failure.emplace();
  EXPECT_THAT(EndingWords(state, Options({"--job", "j", "--", "./t"}), std::nullopt, 3), IsEmpty());
  state.failure.reset();
  EXPECT_THAT(EndingWords(state, Options({"--job", "j", "--", "./t"}), std::nullopt, 3),
              ElementsAre("belay: rank 0 exited with status 23\n"));
}

TEST(EndingWordsTest, AFinishedRunThatSavedNothingSaysSo) {
  SupervisorState state = Ended(Outcome::kDone, 0, "every rank finished");
  state.ranks.resize(1);
  state.ranks[0].progress.attached = true;
  state.ranks[0].progress.step = 10;
  EXPECT_THAT(EndingWords(state, Options({"--job", "j", "--", "./t"}), std::nullopt, 3),
              ElementsAre("belay: done: every rank finished; nothing was saved (3s)\n"));
}

TEST(EndingWordsTest, QuietIsQuietAboutWhatWentWell) {
  RunOptions options = Options({"--quiet", "--job", "j", "--", "./t"});
  EXPECT_THAT(EndingWords(Ended(Outcome::kDone, 0, "every rank finished"), options, 40, 3), IsEmpty());
}

}  // namespace
}  // namespace belay::launcher
