#include <gmock/gmock.h>

#include <csignal>
#include <set>

#include "runtime/base/rng.h"
#include "runtime/base/str.h"
#include "tests/launcher/supervise/driver.h"

namespace belay::launcher {
namespace {

using namespace std::chrono_literals;
using base::SteadyTime;

TEST(SupervisorTest, RunsToTheEndWhenEveryRankExitsWell) {
  Driver d;
  d.RunAll();
  EXPECT_EQ(d.Count<action::StartProgram>(), 2);
  d.Exit(0, 0);
  EXPECT_EQ(d.state().job, JobState::kRunning);
  d.Exit(1, 0);
  EXPECT_EQ(d.Count<action::ReleaseRank>(), 2);
  d.Down();
  EXPECT_EQ(d.state().job, JobState::kDone);
  EXPECT_EQ(d.verdict().exit_status, 0);
  EXPECT_EQ(d.verdict().outcome, Outcome::kDone);
  EXPECT_EQ(d.Count<action::Finish>(), 1);
}

TEST(SupervisorTest, NoProgramStartsBeforeEveryRankHasRegistered) {
  Driver d(3);
  d.GrantNext();
  d.Register(0);
  d.Register(2);
  EXPECT_EQ(d.Count<action::StartProgram>(), 0);
  d.Register(1);
  EXPECT_EQ(d.Count<action::StartProgram>(), 3);
}

TEST(SupervisorTest, MpirunsExitZeroProvesNothing) {
  Driver d;
  d.RunAll();
  d.Feed(event::MpirunExited{0, 0});
  EXPECT_EQ(d.state().job, JobState::kKilling);
  EXPECT_EQ(d.Count<action::KillRank>(), 2);
}

TEST(SupervisorTest, RefusedGenerationEndsTheRunWithTheErrorsStatus) {
  Driver d;
  d.Feed(event::Refused{base::Error{base::Code::kJobBusy, "another run", nullptr}});
  EXPECT_EQ(d.state().job, JobState::kDone);
  EXPECT_EQ(d.verdict().exit_status, 75);
  EXPECT_EQ(d.verdict().outcome, Outcome::kFailed);
  EXPECT_EQ(d.Count<action::SpawnMpirun>(), 0);
}

TEST(SupervisorTest, FirstFailureInTimeIsNamedWhateverOrderItArrivesIn) {
  Driver d(3, 0);
  d.RunAll();
  d.Feed(event::Exited{2, {.status = 134, .signal = SIGABRT}, d.now_ + 50ms});
  EXPECT_EQ(d.state().job, JobState::kSettling);
  d.Feed(event::Exited{1, {.status = 137, .signal = SIGKILL}, d.now_ + 10ms});
  EXPECT_EQ(d.Count<action::Report>(), 0);
  d.Wait(300ms);
  ASSERT_TRUE(d.state().failure);
  EXPECT_EQ(d.state().failure->first.rank, 1);
  EXPECT_EQ(d.Count<action::KillRank>(), 1);  // rank 0 alone is left
  d.Exit(0, 137, SIGKILL);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 137);
}

TEST(SupervisorTest, RestartsWithTheNextGenerationAndCountsRestarts) {
  Driver d(2, 1);
  for (int round = 0; round < 2; ++round) {
    d.RunAll(round == 0 ? std::nullopt : std::optional<std::int64_t>(10));
    d.Attach(0, 12, 10);
    d.Exit(1, 137, SIGKILL);
    d.Wait(300ms);
    d.Exit(0, 137, SIGKILL);
    d.Down();
  }
  EXPECT_EQ(d.Count<action::AskGeneration>(), 2);
  EXPECT_EQ(d.state().restarts, 1);
  EXPECT_EQ(d.state().job, JobState::kDone);
  EXPECT_EQ(d.verdict().outcome, Outcome::kFailed);
  EXPECT_EQ(d.verdict().exit_status, 137);
}

TEST(SupervisorTest, OrdinaryFailureBeforeTheFirstStepIsNotRestarted) {
  Driver d;
  d.RunAll();
  d.Exit(0, 1);
  d.Wait(300ms);
  d.Exit(1, 137, SIGKILL);
  d.Down();
  EXPECT_EQ(d.state().restarts, 0);
  EXPECT_EQ(d.verdict().exit_status, 1);
}

TEST(SupervisorTest, AProgramWhoseStepsCannotBeSeenIsNotSaidToHaveDoneNone) {
  Driver plain;
  plain.RunAll();
  plain.Exit(0, 1);
  plain.Wait(300ms);
  EXPECT_THAT(plain.Reports(), testing::ElementsAre(testing::HasSubstr("belay cannot see the steps")));
  Driver attached;
  attached.RunAll();
  attached.Attach(1, 0);
  attached.Exit(0, 1);  // the rank that failed had no session yet
  attached.Wait(300ms);
  EXPECT_THAT(attached.Reports(), testing::ElementsAre(testing::HasSubstr("before its first finished step")));
}

TEST(SupervisorTest, OrdinaryFailureAfterAStepIsRestarted) {
  Driver d;
  d.RunAll();
  d.Attach(1, 1);
  d.Exit(0, 1);
  d.Wait(300ms);
  d.Exit(1, 137, SIGKILL);
  d.Down();
  EXPECT_EQ(d.state().job, JobState::kRenewing);
  EXPECT_EQ(d.state().restarts, 1);
}

TEST(SupervisorTest, AttachedRankThatExitsZeroUnfinishedFails) {
  Driver d(1);
  d.RunAll();
  d.Attach(0, 7);
  d.Exit(0, 0);
  EXPECT_EQ(d.state().job, JobState::kKilling == d.state().job ? JobState::kKilling : JobState::kCleaning);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 79);
}

TEST(SupervisorTest, StopOfAttachedRanksSetsThePageAndSendsNoSignal) {
  Driver d;
  d.RunAll();
  d.Attach(0, 3);
  d.Feed(event::StopAsked{"SIGTERM"});
  EXPECT_EQ(d.state().job, JobState::kStopping);
  EXPECT_EQ(d.Count<action::StopRank>(), 2);
  d.Wait(10s);
  EXPECT_EQ(d.Sigterms(), 0);
  d.Exit(0, 75);
  d.Exit(1, 75);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 75);
  EXPECT_EQ(d.verdict().outcome, Outcome::kPreempted);
}

TEST(SupervisorTest, StopOfProgramsThatNeverAttachedSendsSigtermAtOnce) {
  Driver d;
  d.RunAll();
  d.GrowOld();
  d.Feed(event::StopAsked{"SIGTERM"});
  EXPECT_EQ(d.Sigterms(), 2);
  d.Exit(0, 143, SIGTERM);
  d.Exit(1, 0);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 72);
  EXPECT_EQ(d.verdict().outcome, Outcome::kStoppedUnsaved);
}

TEST(SupervisorTest, AYoungProgramGetsSigtermOnceItIsOldEnough) {
  Driver d;
  d.RunAll();
  d.now_ += 1s;
  d.Feed(event::StopAsked{"SIGTERM"});
  EXPECT_EQ(d.Sigterms(), 0);
  EXPECT_EQ(NextDeadline(d.state()), d.now_ + 2s);
  d.Wait(1s);
  EXPECT_EQ(d.Sigterms(), 0);
  d.Exit(1, 0);
  d.Wait(1s);
  EXPECT_EQ(d.Sigterms(), 1) << "to the rank that is still there";
  d.Wait(10s);
  EXPECT_EQ(d.Sigterms(), 1) << "once";
}

TEST(SupervisorTest, AYoungProgramGetsSigtermWithHalfTheGraceLeft) {
  Driver d;
  d.config().grace = 1s;
  d.Take(Begin(d.config(), d.now_));
  d.RunAll();
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Wait(500ms);
  EXPECT_EQ(d.Sigterms(), 2);
}

TEST(SupervisorTest, AProgramThatAttachesAfterTheStopIsLeftToEndInOrder) {
  Driver d;
  d.RunAll();
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Attach(0, 0);
  d.Wait(3s);
  EXPECT_EQ(d.Sigterms(), 0) << "the other one is only slow";
  d.Attach(1, 0);
  d.Attach(0, 1, 1, 2);
  d.Exit(0, 75);
  d.Attach(1, 1, 1, 2);
  d.Exit(1, 75);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 75);
}

TEST(SupervisorTest, AStopBeforeTheFirstStepLosesNothing) {
  Driver d;
  d.RunAll();
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Attach(0, 0, -1, 3);
  d.Attach(1, 0, -1, 3);
  d.Exit(0, 72);
  d.Exit(1, 72);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 75);
  EXPECT_THAT(d.verdict().reason, testing::HasSubstr("before the first step"));
}

TEST(SupervisorTest, ASchedulersOwnSigtermToAYoungProgramIsNoFailure) {
  Driver d;
  d.RunAll();
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Exit(0, 143, SIGTERM);
  d.Exit(1, 143, SIGTERM);
  EXPECT_EQ(d.Sigterms(), 0);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 72);
  EXPECT_FALSE(d.state().failure);
}

TEST(SupervisorTest, OneRankOfAPlainProgramMaySaveForAll) {
  Driver d;
  d.RunAll();
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Exit(0, 75);
  d.Exit(1, 143, SIGTERM);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 75);
}

TEST(SupervisorTest, StopWhileAJobWithACheckpointStartsLosesNothing) {
  Driver d;
  d.RunAll(40);
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Exit(0, 143, SIGTERM);
  d.Exit(1, 143, SIGTERM);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 75);
}

TEST(SupervisorTest, SlowStarterKilledByTheStopDoesNotHangTheAttachedOnes) {
  Driver d;
  d.RunAll();
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Attach(0, 0);
  d.Exit(1, 143, SIGTERM);
  EXPECT_EQ(d.state().job, JobState::kKilling);
  d.Exit(0, 137, SIGKILL);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 75);
}

TEST(SupervisorTest, RanksThatLeaveWith75ByThemselvesArePreempted) {
  Driver d;
  d.RunAll();
  d.Attach(0, 5);
  d.Attach(1, 5);
  d.Exit(1, 75);
  EXPECT_EQ(d.state().job, JobState::kStopping);
  EXPECT_EQ(d.Count<action::StopRank>(), 1);
  d.Exit(0, 75);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 75);
}

TEST(SupervisorTest, SavedOutcomeCountsEvenIfTheProgramExitsZero) {
  Driver d(1);
  d.RunAll();
  d.Attach(0, 5);
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Attach(0, 6, 6, 2);
  d.Exit(0, 0);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 75);
}

TEST(SupervisorTest, UnsavedStopIs72) {
  Driver d;
  d.RunAll();
  d.Attach(0, 5);
  d.Attach(1, 5);
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Exit(0, 72);
  d.Exit(1, 72);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 72);
}

TEST(SupervisorTest, RanksThatFinishedBeforeTheStopAreDone) {
  Driver d;
  d.RunAll();
  d.Attach(0, 5, 5, 1);
  d.Attach(1, 5, 5, 1);
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Exit(0, 0);
  d.Exit(1, 0);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 0);
}

TEST(SupervisorTest, GraceExpiredKillsAndIs72) {
  Driver d;
  d.RunAll();
  d.Attach(0, 5);
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Wait(59s);
  EXPECT_EQ(d.state().job, JobState::kStopping);
  d.Wait(1s);
  EXPECT_EQ(d.state().job, JobState::kKilling);
  d.Exit(0, 137, SIGKILL);
  d.Exit(1, 137, SIGKILL);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 72);
}

TEST(SupervisorTest, ARankThatCrashesAfterEverythingWasSavedCostsNothing) {
  Driver d;
  d.RunAll();
  d.Attach(0, 9);
  d.Attach(1, 9);
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Attach(0, 10, 10, 2);
  d.Attach(1, 10, 10, 2);
  d.Exit(0, 128 + SIGSEGV, SIGSEGV);
  EXPECT_EQ(d.state().job, JobState::kStopping);
  d.Exit(1, 75);
  d.Down();
  EXPECT_EQ(d.verdict().outcome, Outcome::kPreempted);
  EXPECT_EQ(d.verdict().exit_status, 75);
  EXPECT_EQ(d.Count<action::Report>(), 0) << "no failure";
  const auto said = std::ranges::any_of(d.actions_, [](const Action& a) {
    const auto* say = std::get_if<action::Say>(&a);
    return say != nullptr && say->text.find("rank 0 was killed by signal 11 (SIGSEGV)") != std::string::npos;
  });
  EXPECT_TRUE(said);
}

TEST(SupervisorTest, AStopOfItsOwnThatEndsInACrashIsStillAStop) {
  Driver d;
  d.RunAll();
  d.Attach(0, 10, 10, 2);
  d.Exit(0, 128 + SIGABRT, SIGABRT);
  EXPECT_EQ(d.state().job, JobState::kStopping);
  d.Attach(1, 10, 10, 2);
  d.Feed(event::Lost{1});
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 75);
}

TEST(SupervisorTest, RanksThatSavedAndHangWhileLeavingArePreemptedWhenTheGraceExpires) {
  Driver d;
  d.RunAll();
  d.Attach(0, 9);
  d.Attach(1, 9);
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Attach(0, 10, 10, 2);
  d.Attach(1, 10, 10, 2);
  d.Exit(0, 75);
  d.Wait(d.config().grace);
  EXPECT_EQ(d.state().job, JobState::kKilling);
  EXPECT_EQ(d.verdict().outcome, Outcome::kPreempted);
  EXPECT_EQ(d.verdict().exit_status, 75);
}

TEST(SupervisorTest, OneRankThatHasNotSaidThatItSavedMakesAnExpiredGraceUnsaved) {
  Driver d;
  d.RunAll();
  d.Attach(0, 9);
  d.Attach(1, 9);
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Attach(0, 10, 10, 2);
  d.Wait(d.config().grace);
  EXPECT_EQ(d.verdict().exit_status, 72);
}

TEST(SupervisorTest, FailureDuringAStopIsNotRestarted) {
  Driver d;
  d.RunAll();
  d.Attach(0, 5);
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Exit(0, 139, SIGSEGV);
  d.Wait(300ms);
  d.Exit(1, 137, SIGKILL);
  d.Down();
  EXPECT_EQ(d.state().job, JobState::kDone);
  EXPECT_EQ(d.verdict().exit_status, 139);
}

TEST(SupervisorTest, SecondInterruptKillsSecondSigtermDoesNot) {
  Driver d;
  d.RunAll();
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Feed(event::StopAsked{"SIGTERM"});
  EXPECT_EQ(d.state().job, JobState::kStopping);
  d.Feed(event::StopAsked{"SIGINT", true});
  EXPECT_EQ(d.state().job, JobState::kStopping) << "the first Ctrl-C never loses the save, whatever came before it";
  d.Feed(event::StopAsked{"SIGINT", true});
  EXPECT_EQ(d.state().job, JobState::kKilling);
  d.Exit(0, 137, SIGKILL);
  d.Exit(1, 137, SIGKILL);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 130);
  EXPECT_EQ(d.verdict().outcome, Outcome::kInterrupted);
}

TEST(SupervisorTest, AStopWhileAFailureSettlesLeavesTheCheckpoint) {
  Driver d;
  d.RunAll();
  d.Attach(0, 10, 8);
  d.Attach(1, 10, 8);
  d.Exit(0, 137, SIGKILL);
  ASSERT_EQ(d.state().job, JobState::kSettling);
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Exit(1, 137, SIGKILL);
  d.Down();
  EXPECT_EQ(d.state().job, JobState::kDone);
  EXPECT_EQ(d.verdict().outcome, Outcome::kPreempted);
  EXPECT_EQ(d.verdict().exit_status, 75);
  EXPECT_THAT(d.Reports(), testing::ElementsAre("not restarted: stopping on SIGTERM; the checkpoint of step 8 stands"));
}

TEST(SupervisorTest, AStopWhileAFailureSettlesThatWouldNotBeRestartedChangesNothing) {
  Driver d(2, 0);
  d.RunAll();
  d.Attach(0, 10, 8);
  d.Attach(1, 10, 8);
  d.Exit(0, 23);
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Exit(1, 137, SIGKILL);
  d.Down();
  EXPECT_EQ(d.verdict().outcome, Outcome::kFailed);
  EXPECT_EQ(d.verdict().exit_status, 23);
}

TEST(SupervisorTest, MpirunsOwnStatusIsNeverTheRuns) {
  for (const int status : {0, 1, 143}) {
    Driver d(2, 0);
    d.RunAll();
    d.Feed(event::MpirunExited{status, 0});
    d.Exit(0, 137, SIGKILL);
    d.Exit(1, 137, SIGKILL);
    d.Down();
    EXPECT_EQ(d.verdict().exit_status, 69) << status;
  }
}

TEST(SupervisorTest, ARankThatSaysTooLateThatItHadAttachedDoesNotWaitInVain) {
  Driver d;
  d.RunAll();
  d.GrowOld();
  d.Feed(event::StopAsked{"SIGTERM"});
  ASSERT_EQ(d.Sigterms(), 2);
  d.Exit(0, 143, SIGTERM);  // it had no session yet
  EXPECT_EQ(d.state().job, JobState::kStopping);
  d.Attach(1, 0);  // this one had: it waits for the other in MPI_Init
  EXPECT_EQ(d.state().job, JobState::kKilling);
  d.Exit(1, 137, SIGKILL);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 75);
}

TEST(SupervisorTest, WhatCannotBeStartedSaysWhyAndWithWhichStatus) {
  Driver d;
  d.GrantNext();
  d.Feed(event::SpawnFailed{base::Error{base::Code::kNoSpace, "no room in /logs", nullptr}});
  EXPECT_EQ(d.Count<action::Report>(), 1);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 73);
  EXPECT_THAT(d.verdict().reason, testing::HasSubstr("no room in /logs"));
}

TEST(SupervisorTest, ARestartThatIsRefusedSaysWhy) {
  Driver d;
  d.RunAll();
  d.Attach(0, 10, 8);
  d.Attach(1, 10, 8);
  d.Exit(0, 137, SIGKILL);
  d.Exit(1, 137, SIGKILL);
  d.Down();
  ASSERT_EQ(d.state().job, JobState::kRenewing);
  d.Feed(event::Refused{base::Error{base::Code::kUnavailable, "no belayd", nullptr}});
  EXPECT_FALSE(d.state().failure.has_value()) << "the report of the attempt before has been printed already";
  EXPECT_EQ(d.verdict().reason,
            "rank 0 was killed by signal 9 (SIGKILL) after step 10, and the run cannot restart: no belayd");
  EXPECT_EQ(d.verdict().exit_status, 69);
}

TEST(SupervisorTest, StopNowKillsAtOnce) {
  Driver d;
  d.RunAll();
  d.Feed(event::StopAsked{"belay stop", false, true});
  EXPECT_EQ(d.state().job, JobState::kKilling);
  EXPECT_EQ(d.Count<action::StopRank>(), 0);
}

TEST(SupervisorTest, StopBeforeTheProgramsStartLosesNothing) {
  Driver d;
  d.GrantNext();
  d.Register(0);
  d.Feed(event::StopAsked{"SIGTERM"});
  EXPECT_EQ(d.state().job, JobState::kKilling);
  d.Register(1);  // too late: it is told to go
  EXPECT_EQ(d.Count<action::KillRank>(), 2);
  EXPECT_EQ(d.Count<action::StartProgram>(), 0);
  d.Exit(0, 137, SIGKILL);
  d.Feed(event::Lost{1});
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 75);
}

TEST(SupervisorTest, StopWhileTheGenerationIsAskedForEndsAtOnce) {
  Driver d;
  d.Feed(event::StopAsked{"SIGTERM"});
  EXPECT_EQ(d.state().job, JobState::kDone);
  EXPECT_EQ(d.verdict().exit_status, 75);
  d.GrantNext();  // the late answer changes nothing
  EXPECT_EQ(d.Count<action::SpawnMpirun>(), 0);
  EXPECT_EQ(d.Count<action::Finish>(), 1);
}

TEST(SupervisorTest, StopWhileRecoveringMeansNoRestart) {
  Driver d;
  d.RunAll(10);
  d.Attach(0, 15, 12);
  d.Exit(1, 137, SIGKILL);
  d.Wait(300ms);
  EXPECT_TRUE(d.state().will_restart);
  d.Feed(event::StopAsked{"SIGTERM"});
  d.Exit(0, 137, SIGKILL);
  d.Down();
  EXPECT_EQ(d.state().job, JobState::kDone);
  EXPECT_EQ(d.verdict().exit_status, 75);
}

TEST(SupervisorTest, LaunchTimeoutSaysHowManyRanksAreMissing) {
  Driver d(3);
  d.GrantNext();
  d.Register(1);
  d.Wait(60s);
  ASSERT_TRUE(d.state().failure);
  EXPECT_THAT(d.state().failure->what, testing::HasSubstr("2 of 3 ranks"));
  d.Exit(1, 137, SIGKILL);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 69);
}

TEST(SupervisorTest, MpirunThatDiesAtTheStartIsALaunchFailure) {
  Driver d;
  d.GrantNext();
  d.Feed(event::MpirunExited{1, 0});
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 69);
  EXPECT_EQ(d.state().restarts, 0);
}

TEST(SupervisorTest, ShimKilledAtTheStartIsRestarted) {
  Driver d;
  d.GrantNext();
  d.Register(0);
  d.Feed(event::Lost{0});
  EXPECT_EQ(d.state().job, JobState::kStarting);  // mpirun has the better words
  d.Feed(event::MpirunExited{137, 0});
  ASSERT_TRUE(d.state().failure);
  EXPECT_EQ(d.state().failure->failure_class, FailureClass::kShimLost);
  d.Down();
  EXPECT_EQ(d.state().job, JobState::kRenewing);
}

TEST(SupervisorTest, LostShimIsAFailureOfItsRank) {
  Driver d(2, 0);
  d.RunAll();
  d.Feed(event::Lost{1});
  d.Wait(300ms);
  EXPECT_EQ(d.state().failure->failure_class, FailureClass::kShimLost);
  d.Exit(0, 137, SIGKILL);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 137);
}

TEST(SupervisorTest, MpirunThatNeverLeavesIsKilled) {
  Driver d(1);
  d.RunAll();
  d.Exit(0, 0);
  EXPECT_EQ(d.Count<action::CleanUp>(), 0);
  d.Wait(5s);
  EXPECT_EQ(d.Count<action::CleanUp>(), 1);
  d.Down();
  EXPECT_EQ(d.verdict().exit_status, 0);
}

TEST(SupervisorTest, ShimsThatDoNotAnswerAKillAreCleanedUp) {
  Driver d;
  d.RunAll();
  d.Feed(event::StopAsked{"belay stop", false, true});
  d.Wait(5s);
  EXPECT_EQ(d.state().job, JobState::kCleaning);
  d.Wait(20s);  // and even a clean-up that never answers ends
  EXPECT_EQ(d.state().job, JobState::kDone);
}

TEST(SupervisorTest, TimeLimitStopsLikeAnyStop) {
  Driver d(1);
  d.config_.time_limit = 10s;
  d.Take(Begin(d.config_, d.now_));
  d.RunAll();
  d.Wait(9s);
  EXPECT_EQ(d.state().job, JobState::kRunning);
  d.Wait(1s);
  EXPECT_EQ(d.state().job, JobState::kStopping);
  EXPECT_EQ(d.state().stop_source, "--timeout");
}

TEST(SupervisorTest, DaemonsDeathChangesNothingButIsMended) {
  Driver d;
  d.RunAll();
  d.Feed(event::DaemonGone{});
  EXPECT_EQ(d.state().job, JobState::kRunning);
  EXPECT_EQ(d.Count<action::RestartDaemon>(), 1);
}

TEST(SupervisorTest, EventsOfUnknownRanksAreIgnored) {
  Driver d;
  d.RunAll();
  d.Exit(7, 1);
  d.Exit(-1, 1);
  d.Feed(event::Lost{99});
  d.Feed(event::Registered{5});
  EXPECT_EQ(d.state().job, JobState::kRunning);
}

// Random events from seeds against a small model of the outside world: the run always ends, with one verdict, never
// while a program is alive, and with a status that its ends allow.
class World {
 public:
  explicit World(std::uint64_t seed) : rng_(seed) {
    config_.world_size = static_cast<std::int32_t>(1 + rng_.Below(4));
    config_.restarts_max = static_cast<std::int32_t>(rng_.Below(3));
    if (rng_.Below(4) == 0) config_.time_limit = std::chrono::seconds(rng_.Below(100));
    Take(Begin(config_, now_));
  }

  void Run() {
    for (int event = 0; event < 4000; ++event) {
      if (state_.job == JobState::kDone) return Check();
      Tell();
    }
    FAIL() << "the run did not end; it is " << Name(state_.job);
  }

 private:
  struct Rank {
    bool shim = false, registered = false, alive = false, attached = false;
    std::int64_t step = 0;
  };

  void Take(StepResult result) {
    state_ = std::move(result.state);
    for (const Action& action : result.actions) {
      std::visit([this](const auto& a) { Do(a); }, action);
    }
  }
  void Feed(const Event& event) { Take(Step(std::move(state_), event, now_)); }

  void Do(const action::AskGeneration&) { asked_ = true; }
  void Do(const action::SpawnMpirun&) {
    ASSERT_FALSE(mpirun_) << "two mpiruns at once";
    mpirun_ = true;
    ranks_.assign(config_.world_size, Rank{.shim = true});
  }
  void Do(const action::StartProgram& a) {
    ASSERT_TRUE(ranks_[a.rank].registered);
    ranks_[a.rank].alive = ranks_[a.rank].shim;
  }
  void Do(const action::StopRank& a) {
    stopped_ = true;
    if (a.terminate) terminated_ = true;
  }
  void Do(const action::KillRank& a) {
    if (ranks_[a.rank].shim && rng_.Below(8) != 0) kill_.insert(a.rank);
  }
  void Do(const action::ReleaseRank& a) { ASSERT_FALSE(ranks_[a.rank].alive) << "released a living rank"; }
  void Do(const action::CleanUp&) { cleaning_ = true; }
  void Do(const action::RestartDaemon&) {}
  void Do(const action::Say&) {}
  void Do(const action::Report&) {}
  void Do(const action::EndAttempt&) {}
  void Do(const action::JudgeResume&) {}
  void Do(const action::Finish&) {
    ++finishes_;
    for (const Rank& rank : ranks_) EXPECT_FALSE(rank.alive) << "a program outlived the run";
    EXPECT_FALSE(mpirun_) << "mpirun outlived the run";
  }

  void Exit(std::int32_t r, RankExit exit) {
    ranks_[r].alive = false;
    Feed(event::Exited{r, std::move(exit), now_});
  }

  // Something happens in the world.
  void Tell() {
    now_ += std::chrono::milliseconds(rng_.Below(400));
    if (const auto deadline = NextDeadline(state_); deadline && now_ >= *deadline) Feed(event::Tick{});
    if (state_.job == JobState::kDone) return;
    if (asked_ && rng_.Below(2) == 0) {
      asked_ = false;
      if (rng_.Below(20) == 0) return Feed(event::Refused{base::Error{base::Code::kUnavailable, "no belayd", nullptr}});
      return Feed(event::Granted{base::Generation(++generation_),
                                 rng_.Below(2) == 0 ? std::nullopt : std::optional<std::int64_t>(5)});
    }
    if (cleaning_ && rng_.Below(3) == 0) {
      cleaning_ = false;
      for (Rank& rank : ranks_) rank = {};
      mpirun_ = false;
      kill_.clear();
      return Feed(event::CleanedUp{});
    }
    if (!kill_.empty() && rng_.Below(2) == 0) {
      const std::int32_t r = *kill_.begin();
      kill_.erase(kill_.begin());
      if (ranks_[r].alive || ranks_[r].registered) return Exit(r, {.status = 137, .signal = SIGKILL});
    }
    if (rng_.Below(60) == 0) return Feed(event::StopAsked{"SIGTERM", rng_.Below(2) == 0, rng_.Below(10) == 0});
    if (rng_.Below(80) == 0) return Feed(event::DaemonGone{});
    if (mpirun_ && rng_.Below(state_.job == JobState::kReleasing ? 3 : 100) == 0) {
      mpirun_ = false;
      return Feed(event::MpirunExited{static_cast<int>(rng_.Below(2)), rng_.Below(4) == 0 ? SIGKILL : 0});
    }
    if (mpirun_ && std::ranges::none_of(ranks_, &Rank::registered) && rng_.Below(60) == 0) {
      mpirun_ = false;
      ranks_.assign(config_.world_size, Rank{});
      return Feed(event::SpawnFailed{base::Error{base::Code::kNoSpace, "no room", nullptr}});
    }
    if (ranks_.empty()) return;
    const auto r = static_cast<std::int32_t>(rng_.Below(ranks_.size()));
    Rank& rank = ranks_[r];
    if (!rank.shim) return;
    if (!rank.registered) {
      rank.registered = true;
      return Feed(event::Registered{r, r, "host", 1, ""});
    }
    if (rng_.Below(120) == 0) {
      rank = {};
      return Feed(event::Lost{r});
    }
    if (!rank.alive) return;
    if (stopped_ && rng_.Below(4) == 0) {
      if (!rank.attached && terminated_) return Exit(r, {.status = 143, .signal = SIGTERM});
      if (rank.attached)
        Feed(event::Progress{r, {.attached = true, .step = rank.step, .committed_step = rank.step, .outcome = 2}});
      return Exit(r, {.status = 75});
    }
    switch (rng_.Below(30)) {
      case 0: {
        const bool finished = rank.attached;
        if (finished) Feed(event::Progress{r, {.attached = true, .step = rank.step, .outcome = 1}});
        return Exit(r, {.status = 0});
      }
      case 1:
        return Exit(r, {.status = static_cast<int>(rng_.Below(130))});
      case 2:
        return Exit(r, {.status = 139, .signal = SIGSEGV});
      default:
        rank.attached = true;
        ++rank.step;
        return Feed(event::Progress{r, {.attached = true, .step = rank.step, .committed_step = rank.step - 3}});
    }
  }

  void Check() {
    EXPECT_EQ(finishes_, 1);
    EXPECT_NE(state_.verdict.outcome, Outcome::kNone);
    EXPECT_FALSE(state_.verdict.reason.empty());
    EXPECT_EQ(state_.verdict.outcome == Outcome::kDone, state_.verdict.exit_status == 0);
    EXPECT_LE(state_.restarts, config_.restarts_max);
    if (state_.verdict.outcome == Outcome::kPreempted) {
      EXPECT_EQ(state_.verdict.exit_status, 75);
      EXPECT_TRUE(state_.stop_requested);
    }
  }

  base::Rng rng_;
  SupervisorConfig config_;
  SupervisorState state_;
  SteadyTime now_{1h};
  std::vector<Rank> ranks_;
  std::set<std::int32_t> kill_;
  bool asked_ = false, cleaning_ = false, mpirun_ = false, stopped_ = false, terminated_ = false;
  std::uint64_t generation_ = 0;
  int finishes_ = 0;
};

TEST(SupervisorSimulation, EveryRunEndsOnceAndLeavesNoRank) {
  for (std::uint64_t seed = 1; seed <= 3000; ++seed) {
    SCOPED_TRACE(base::Str("seed ", seed));
    World(seed).Run();
    if (HasFailure()) return;
  }
}

TEST(JobStateTest, EveryStateButTheFirstIsReachedAndEveryStateButTheLastIsLeft) {
  std::set<JobState> reached, left;
  for (const Transition& t : JobTransitions()) {
    reached.insert(t.to);
    left.insert(t.from);
    EXPECT_TRUE(MayFollow(t.from, t.to));
  }
  EXPECT_EQ(left.count(JobState::kDone), 0U);
  EXPECT_EQ(reached.size(), 9U);
  EXPECT_EQ(left.size(), 8U);
  EXPECT_FALSE(MayFollow(JobState::kDone, JobState::kRunning));
  EXPECT_FALSE(MayFollow(JobState::kRunning, JobState::kDone));
}

}  // namespace
}  // namespace belay::launcher
