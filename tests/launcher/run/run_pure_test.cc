#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "launcher/rank/rank_environment.h"
#include "launcher/run/console.h"
#include "launcher/run/last_run.h"
#include "launcher/run/mpirun_command.h"
#include "launcher/run/progress_line.h"
#include "launcher/run/run_directory.h"
#include "launcher/run/run_loop.h"
#include "launcher/run/verdict.h"
#include "runtime/base/sim/mem_file_system.h"

namespace belay::launcher {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::Pair;

TEST(MpirunCommandTest, IsWhatWeKnowToWork) {
  EXPECT_EQ(ShellCommand(MpirunCommand({.ranks = 4,
                                        .shim = "/opt/belay/bin/belay-rank",
                                        .scratch_directory = "/tmp/belay-0/r-1/a1",
                                        .memory_directory = "/dev/shm/belay-0-r-1-a1",
                                        .mca = {{"btl", "self,vader"}}})),
            "mpirun --bind-to none --oversubscribe -n 4 --mca plm isolated "
            "--mca ras '^slurm,tm,lsf,loadleveler,gridengine,alps' --mca orte_default_hostfile none "
            "--mca oob_tcp_keepalive_time 20 --mca oob_tcp_keepalive_intvl 5 "
            "--mca oob_tcp_keepalive_probes 8 --mca orte_tmpdir_base /tmp/belay-0/r-1/a1 "
            "--mca btl_vader_backing_directory /dev/shm/belay-0-r-1-a1 --mca btl self,vader "
            "-x BELAY_LAUNCHER_SOCKET -x BELAY_ATTEMPT -x BELAY_SCRATCH /opt/belay/bin/belay-rank");
}

TEST(MpirunCommandTest, TheUsersParameterReplacesOurs) {
  const auto argv = MpirunCommand({.shim = "s", .mca = {{"oob_tcp_keepalive_time", "99"}}});
  EXPECT_EQ(std::ranges::count(argv, "oob_tcp_keepalive_time"), 1);
  EXPECT_THAT(argv, Contains("99"));
}

TEST(MpirunCommandTest, NeverAsksForRecovery) {
  for (const std::string& word : MpirunCommand({.ranks = 2, .shim = "s"})) {
    EXPECT_EQ(word.find("recovery"), std::string::npos);
    EXPECT_EQ(word.find("continuous"), std::string::npos);
    EXPECT_EQ(word.find("abort_on_non_zero"), std::string::npos);
  }
}

TEST(MpirunCommandTest, EnvironmentForgetsAnOuterMpirun) {
  const auto environment =
      MpirunEnvironment({{"PATH", "/bin"}, {"PMIX_RANK", "3"}, {"OMPI_COMM_WORLD_RANK", "3"}, {"OMPI_MCA_btl", "self"}},
                        {.socket = "/s", .mark = "m", .scratch_directory = "/a", .memory_directory = "/b"}, true);
  EXPECT_THAT(environment, testing::UnorderedElementsAre(
                               Pair("PATH", "/bin"), Pair("OMPI_MCA_btl", "self"), Pair("BELAY_LAUNCHER_SOCKET", "/s"),
                               Pair("BELAY_ATTEMPT", "m"), Pair("BELAY_SCRATCH", "/a:/b"),
                               Pair("OMPI_ALLOW_RUN_AS_ROOT", "1"), Pair("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")));
}

TEST(MpirunCommandTest, QuotesWhatAShellWouldEat) {
  EXPECT_EQ(ShellCommand({"a", "b c", "", "it's", "$x"}), "a 'b c' '' 'it'\\''s' '$x'");
}

TEST(RankEnvironmentTest, ReadsMpirunsPlacementAndRefusesNonsense) {
  std::map<std::string, std::string> mpirun = {{"OMPI_COMM_WORLD_RANK", "1"},
                                               {"OMPI_COMM_WORLD_LOCAL_RANK", "1"},
                                               {"OMPI_COMM_WORLD_SIZE", "2"},
                                               {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}};
  ASSERT_TRUE(PlacementFromMpirun(mpirun));
  EXPECT_EQ(PlacementFromMpirun(mpirun)->rank, 1);
  for (const char* bad : {"", "x", "-1", "2", "1x"}) {
    mpirun["OMPI_COMM_WORLD_RANK"] = bad;
    EXPECT_FALSE(PlacementFromMpirun(mpirun)) << bad;
  }
  mpirun.erase("OMPI_COMM_WORLD_RANK");
  EXPECT_FALSE(PlacementFromMpirun(mpirun));
}

TEST(RankEnvironmentTest, SetsTorchrunsNamesAndKeepsTheUsersThreads) {
  const RankPlacement place{.rank = 3, .local_rank = 1, .world_size = 4, .local_world_size = 2, .node_rank = 1};
  auto environment = MakeRankEnvironment({{"BELAY_LAUNCHER_SOCKET", "s"}}, {{"BELAY_JOB", "j"}}, place, 9);
  EXPECT_EQ(environment.at("RANK"), "3");
  EXPECT_EQ(environment.at("GROUP_RANK"), "1");
  EXPECT_EQ(environment.at("OMP_NUM_THREADS"), "4");
  EXPECT_EQ(environment.at("BELAY_JOB"), "j");
  EXPECT_FALSE(environment.contains("BELAY_LAUNCHER_SOCKET"));
  EXPECT_EQ(MakeRankEnvironment({{"OMP_NUM_THREADS", "7"}}, {}, place, 9).at("OMP_NUM_THREADS"), "7");
  EXPECT_EQ(MakeRankEnvironment({}, {}, place, 1).at("OMP_NUM_THREADS"), "1");
}

TEST(JobEnvironmentTest, ExportsWinAndMissingOnesAreLeftOut) {
  RunOptions options;
  options.job = "j";
  options.exports = {{"A", std::nullopt}, {"B", "b"}, {"NONE", std::nullopt}, {"MASTER_ADDR", "10.0.0.1"}};
  const auto job = JobEnvironment(options, {.generation = 4, .master_port = 1234}, {{"A", "a"}});
  EXPECT_EQ(job.at("A"), "a");
  EXPECT_EQ(job.at("B"), "b");
  EXPECT_FALSE(job.contains("NONE"));
  EXPECT_EQ(job.at("MASTER_ADDR"), "10.0.0.1");
  EXPECT_EQ(job.at("BELAY_GENERATION"), "4");
}

TEST(ConsoleTest, TagsEveryLine) {
  EXPECT_EQ(TagLines(3, "one\ntwo\n"), "[3] one\n[3] two\n");
  EXPECT_EQ(TagLines(0, "no end"), "[0] no end\n");
  EXPECT_EQ(TagLines(0, " 10%\r 50%\r100%\n"), "[0] 100%\n");
  EXPECT_EQ(TagLines(0, "windows\r\n"), "[0] windows\r\n");
}

TEST(ProgressLineTest, ShowsWhatIsKnown) {
  SupervisorState state;
  state.job = JobState::kRunning;
  state.ranks.resize(2);
  state.ranks[0].progress = {.attached = true,
                             .phase = 3,
                             .step = 120,
                             .total_steps = 500,
                             .committed_step = 100,
                             .loss = 2.34567,
                             .samples_per_second = 812.4,
                             .tokens_per_second = 103'900,
                             .stall_ms = 1.25,
                             .data_wait_ms = 0.44};
  state.ranks[1].progress = {.attached = true, .phase = 3, .step = 119, .total_steps = 500, .committed_step = 100};
  EXPECT_EQ(ProgressLine(state, 2.0, 200),
            "step 119/500  loss 2.3457  812 samples/s  104k tokens/s  stall 1.2 ms  wait 0.4 ms  saved 100  ETA 3m11s");
  EXPECT_EQ(ProgressLine(state, std::nullopt, 13), "step 119/500");
}

TEST(ProgressLineTest, IsSilentOnAWaitForInputThatNobodyMeasures) {
  SupervisorState state;
  state.job = JobState::kRunning;
  state.ranks.resize(1);
  state.ranks[0].progress = {.attached = true, .phase = 3, .step = 3};
  EXPECT_EQ(ProgressLine(state, std::nullopt, 80), "step 3");
  state.ranks[0].progress.data_wait_ms = 0;
  EXPECT_EQ(ProgressLine(state, std::nullopt, 80), "step 3");
  state.ranks[0].progress.data_wait_ms = 12.04;
  EXPECT_EQ(ProgressLine(state, std::nullopt, 80), "step 3  wait 12.0 ms");
}

TEST(ProgressLineTest, SaysWhatARunWithoutStepsDoes) {
  SupervisorState state;
  state.ranks.resize(2);
  state.job = JobState::kStarting;
  EXPECT_EQ(ProgressLine(state, std::nullopt, 80), "starting 2 ranks");
  state.job = JobState::kRunning;
  state.ranks[0].state = RankState::kAlive;
  EXPECT_EQ(ProgressLine(state, std::nullopt, 80), "1 rank runs");
}

TEST(ProgressLineTest, RateIsThatOfTheStepsSeen) {
  StepRate rate;
  for (int second = 0; second <= 60; ++second) rate.Observe(second * 5, base::SteadyTime(std::chrono::seconds(second)));
  ASSERT_TRUE(rate.per_second());
  EXPECT_NEAR(*rate.per_second(), 5, 0.01);
  rate.Observe(3, base::SteadyTime(61s));  // a restart
  EXPECT_FALSE(rate.per_second());
}

TEST(ProgressLineTest, WritesDurationsAndCountsForPeople) {
  EXPECT_EQ(HumanDuration(45), "45s");
  EXPECT_EQ(HumanDuration(200), "3m20s");
  EXPECT_EQ(HumanDuration(7500), "2h05m");
  EXPECT_EQ(HumanDuration(273'600), "3d04h");
  EXPECT_EQ(HumanCount(3.14), "3.1");
  EXPECT_EQ(HumanCount(103'900), "104k");
  EXPECT_EQ(HumanCount(12'300'000), "12.3M");
}

TEST(RunDirectoryTest, LauncherRecordRoundTripsAndDamageIsFound) {
  const LauncherRecord record{
      .pid = 7, .host = "h", .socket = "/s", .generation = base::Generation(9), .run_directory = "/r", .started = "t"};
  const auto decoded = DecodeLauncherRecord(EncodeLauncherRecord(record));
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->socket, "/s");
  EXPECT_EQ(decoded->generation, base::Generation(9));
  for (const char* bad : {"", "{", "[]", "{}", "{\"pid\":\"x\",\"socket\":\"s\"}", "{\"pid\":1}", "null"}) {
    EXPECT_FALSE(DecodeLauncherRecord(bad)) << bad;
  }
}

TEST(LastRunTest, TheNewestAttemptIsFoundWhereverItsFilesAre) {
  base::MemFileSystem files;
  const JobFolder folder = MakeJobFolder("/data", "p", "j", "");
  ASSERT_TRUE(base::MakeDirectories(files, folder.path, 0700));
  EXPECT_EQ(FollowLastRun(files, folder).attempts_path, folder.path) << "nothing ran yet";

  const std::string logs = "/logs/p/j/gen-7";
  ASSERT_TRUE(WriteLastRun(files, folder, {.generation = base::Generation(7), .run_directory = logs}));
  EXPECT_EQ(FollowLastRun(files, folder).attempts_path, folder.path) << "it is gone";
  ASSERT_TRUE(base::MakeDirectories(files, logs, 0700));
  EXPECT_EQ(FollowLastRun(files, folder).attempts_path, "/logs/p/j");
  EXPECT_EQ(FollowLastRun(files, folder).path, folder.path);
}

TEST(LastRunTest, DamageIsNoTrace) {
  for (const char* bad :
       {"", "{", "[]", "{}", "null", "{\"generation\":\"7\"}", "{\"generation\":7,\"run_directory\":\"/a\"}",
        "{\"generation\":\"x\",\"run_directory\":\"/a\"}", "{\"generation\":\"7\",\"run_directory\":\"a\"}"}) {
    EXPECT_FALSE(DecodeLastRun(bad)) << bad;
  }
}

TEST(RunDirectoryTest, NamesThatWouldLeaveTheFolderAreRefused) {
  for (const char* good : {"a", "gpt-2", "A.b_c"}) EXPECT_TRUE(CheckName("job", good)) << good;
  for (const char* bad : {"", ".", "..", ".x", "a/b", "a b", "-x", "\n", "é"})
    EXPECT_FALSE(CheckName("job", bad)) << bad;
  EXPECT_FALSE(CheckName("job", std::string(129, 'a')));
}

TEST(VerdictTest, NamesCauseAndStatusAndSurvivesAnyBytes) {
  SupervisorState state;
  state.config.world_size = 1;
  state.generation = base::Generation(3);
  state.verdict = {Outcome::kFailed, 137, "rank 0 died"};
  RankRecord rank;
  rank.state = RankState::kEnded;
  rank.exit = RankExit{.status = 137, .signal = 9, .last_lines = {"\xff\xfe not UTF-8"}};
  rank.progress.attached = true;
  state.ranks = {rank};
  state.failure = MakeFailureReport(state.ranks);
  const auto document = nlohmann::json::parse(EncodeVerdict(state, {.project = "p", .job = "j"}));
  EXPECT_EQ(document["schema_version"], 1);
  EXPECT_EQ(document["outcome"], "failed");
  EXPECT_EQ(document["exit_status"], 137);
  EXPECT_EQ(document["generation"], "3");
  EXPECT_EQ(document["failure"]["first"]["signal"], "SIGKILL");
  EXPECT_EQ(document["run_again"], false);
}

TEST(VerdictTest, WritesTimesInUtc) {
  EXPECT_EQ(Rfc3339(base::WallTime(std::chrono::milliseconds(1'800'000'000'123))), "2027-01-15T08:00:00.123Z");
}

}  // namespace
}  // namespace belay::launcher
