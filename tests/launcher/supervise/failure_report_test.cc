#include "launcher/supervise/failure_report.h"

#include <gtest/gtest.h>

#include <csignal>

#include "launcher/supervise/restart_policy.h"

namespace belay::launcher {
namespace {

using namespace std::chrono_literals;
using base::SteadyTime;

RankRecord Ended(std::int32_t rank, int status, int signal, SteadyTime at) {
  RankRecord record;
  record.rank = record.local_rank = rank;
  record.host = "node7";
  record.pid = 4000 + rank;
  record.shim_pid = 3000 + rank;
  record.state = RankState::kEnded;
  record.exit = RankExit{.status = status, .signal = signal};
  record.ended_at = at;
  return record;
}

TEST(FailureReportTest, NamesTheFirstRankTheOthersAndWhatHappensNext) {
  RankRecord first = Ended(2, 137, SIGKILL, SteadyTime(10s));
  first.progress = {.attached = true, .step = 1234};
  first.log_path = "/data/rank-00002.log";
  first.exit->out_of_memory = true;
  first.exit->last_lines = {"step 1233", "step 1234"};
  RankRecord later = Ended(0, 134, SIGABRT, SteadyTime(10300ms));
  RankRecord ours = Ended(1, 137, SIGKILL, SteadyTime(11s));
  ours.killed_by_us = true;
  const FailureReport report = MakeFailureReport({later, ours, first});
  EXPECT_EQ(RenderFailureReport(report, "restart 1 of 3"),
            "belay: rank 2 (node7, local rank 2, pid 4002) failed first: it was killed by signal 9 (SIGKILL) after "
            "step 1234\n"
            "  why    the kernel's out-of-memory killer was at work: lower the batch size or the ranks per node, or "
            "ask for memory\n"
            "  log    /data/rank-00002.log\n"
            "         | step 1233\n"
            "         | step 1234\n"
            "  then   rank 0 (node7, local rank 0, pid 4000) was killed by signal 6 (SIGABRT), 0.3 s later\n"
            "         belay kills the remaining rank\n"
            "  next   restart 1 of 3\n");
  EXPECT_EQ(report.status, 137);
}

TEST(FailureReportTest, ARankThatBelayKilledIsNeverTheCause) {
  RankRecord ours = Ended(0, 137, SIGKILL, SteadyTime(1s));
  ours.killed_by_us = true;
  EXPECT_EQ(MakeFailureReport({ours, Ended(1, 3, 0, SteadyTime(2s))}).first.rank, 1);
}

TEST(FailureReportTest, ClassifiesEnds) {
  const auto classify = [](RankRecord record) { return MakeFailureReport({std::move(record)}).failure_class; };
  EXPECT_EQ(classify(Ended(0, 1, 0, {})), FailureClass::kUserError);
  EXPECT_EQ(classify(Ended(0, 64, 0, {})), FailureClass::kUsage);
  EXPECT_EQ(classify(Ended(0, 2, 0, {})), FailureClass::kUsage);
  EXPECT_EQ(classify(Ended(0, 139, SIGSEGV, {})), FailureClass::kCrash);
  EXPECT_EQ(classify(Ended(0, 137, SIGKILL, {})), FailureClass::kKilled);
  EXPECT_EQ(classify(Ended(0, 143, SIGTERM, {})), FailureClass::kKilled);
  RankRecord lost = Ended(0, 0, 0, {});
  lost.state = RankState::kLost;
  lost.exit.reset();
  EXPECT_EQ(classify(lost), FailureClass::kShimLost);
  RankRecord misused = Ended(0, 0, 0, {});
  misused.progress.attached = true;
  EXPECT_EQ(classify(misused), FailureClass::kMisuse);
  EXPECT_EQ(MakeFailureReport({misused}).status, 79);
  RankRecord missing = Ended(0, 127, 0, {});
  missing.exit->never_started = true;
  EXPECT_EQ(classify(missing), FailureClass::kUsage);
}

TEST(FailureReportTest, TellsGoodEndsFromFailures) {
  EXPECT_FALSE(Failed(Ended(0, 0, 0, {})));
  EXPECT_FALSE(Failed(Ended(0, 75, 0, {})));
  EXPECT_TRUE(Failed(Ended(0, 72, 0, {})));
  EXPECT_TRUE(Failed(Ended(0, 1, 0, {})));
  RankRecord attached = Ended(0, 0, 0, {});
  attached.progress = {.attached = true, .outcome = 1};
  EXPECT_FALSE(Failed(attached));
  attached.progress.outcome = 0;
  EXPECT_TRUE(Failed(attached));
  attached.exit->status = 72;
  EXPECT_FALSE(Failed(attached));
}

TEST(FailureReportTest, ManyFailedRanksAreCounted) {
  std::vector<RankRecord> ranks;
  for (int r = 0; r < 20; ++r) ranks.push_back(Ended(r, 1, 0, SteadyTime(std::chrono::seconds(r))));
  const std::string text = RenderFailureReport(MakeFailureReport(ranks), "next");
  EXPECT_NE(text.find("and 11 more ranks failed"), std::string::npos) << text;
}

TEST(RestartPolicyTest, RestartsWhatMayHelp) {
  FailureFacts facts{.status = 137, .by_signal = true, .restarts_used = 0, .restarts_max = 3};
  EXPECT_TRUE(DecideRestart(facts).restart);
  facts.restarts_used = 3;
  EXPECT_FALSE(DecideRestart(facts).restart);
  EXPECT_FALSE(DecideRestart({.status = 1, .steps_done = 0, .restarts_max = 3}).restart);
  EXPECT_TRUE(DecideRestart({.status = 1, .steps_done = 1, .restarts_max = 3}).restart);
  EXPECT_FALSE(DecideRestart({.status = 79, .steps_done = 9, .restarts_max = 3}).restart);
  EXPECT_FALSE(DecideRestart({.status = 127, .never_started = true, .restarts_max = 3}).restart);
  EXPECT_FALSE(DecideRestart({.status = 137, .by_signal = true, .restarts_max = 0}).restart);
  EXPECT_FALSE(DecideRestart({.status = 137, .by_signal = true, .restarts_max = 3, .stop_requested = true}).restart);
}

}  // namespace
}  // namespace belay::launcher
