// What counts against a checkpoint that a run resumed from, and what does not.
#include "launcher/supervise/resume_fate.h"

#include <gtest/gtest.h>

#include <csignal>

#include "tests/launcher/supervise/driver.h"

namespace belay::launcher {
namespace {

using namespace std::chrono_literals;

RankProgress At(std::int64_t step, std::uint32_t trust_steps = 10) {
  return {.attached = true,
          .phase = 3,
          .step = step,
          .resumed_step = 100,
          .resumed_generation = 4,
          .trust_steps = trust_steps};
}

class ResumeFateTest : public testing::Test {
 protected:
  // Two ranks that have come back from step 100 of generation 4.
  void Resume(std::int64_t step = 103, std::uint32_t trust_steps = 10) {
    d.RunAll(100);
    for (int rank = 0; rank < 2; ++rank) d.Feed(event::Progress{rank, At(step, trust_steps)});
  }
  void Settle() { d.Wait(5s); }
  std::vector<action::JudgeResume> Judgements() const {
    std::vector<action::JudgeResume> all;
    for (const Action& action : d.actions_) {
      if (const auto* judge = std::get_if<action::JudgeResume>(&action)) all.push_back(*judge);
    }
    return all;
  }
  bool Restarts() const { return d.state().will_restart; }

  Driver d;
};

TEST_F(ResumeFateTest, ACrashBeforeEnoughStepsCountsAgainstIt) {
  Resume();
  d.Exit(1, 139, SIGSEGV);
  Settle();
  ASSERT_EQ(Judgements().size(), 1U);
  EXPECT_EQ(Judgements()[0].fate, ResumeFate::kFailed);
  EXPECT_EQ(Judgements()[0].checkpoint.step, 100);
  EXPECT_EQ(Judgements()[0].checkpoint.generation, 4U);
  EXPECT_NE(Judgements()[0].reason.find("SIGSEGV"), std::string::npos) << Judgements()[0].reason;
  EXPECT_TRUE(Restarts());
}

TEST_F(ResumeFateTest, AProgramThatEndsByItselfCountsAndIsTriedAgainEvenBeforeItsFirstStep) {
  Resume(100);
  d.Exit(0, 1);
  Settle();
  ASSERT_EQ(Judgements().size(), 1U);
  EXPECT_EQ(Judgements()[0].fate, ResumeFate::kFailed);
  EXPECT_TRUE(Restarts()) << "another checkpoint may do better";
}

TEST_F(ResumeFateTest, NumbersThatAreNoneCountWhateverTheStatus) {
  Resume();
  RankProgress diverged = At(104);
  diverged.diverged = true;
  d.Feed(event::Progress{0, diverged});
  d.Exit(0, 65);
  Settle();
  ASSERT_EQ(Judgements().size(), 1U);
  EXPECT_EQ(Judgements()[0].fate, ResumeFate::kDiverged);
}

TEST_F(ResumeFateTest, WhatComesFromOutsideDoesNotCount) {
  const auto judged_after = [](const std::function<void(Driver&)>& end) {
    Driver d;
    d.RunAll(100);
    for (int rank = 0; rank < 2; ++rank) d.Feed(event::Progress{rank, At(103)});
    end(d);
    d.Wait(5s);
    return d.Count<action::JudgeResume>();
  };
  EXPECT_EQ(judged_after([](Driver& d) { d.Exit(0, 137, SIGKILL); }), 0) << "somebody's kill -9";
  EXPECT_EQ(judged_after([](Driver& d) { d.Exit(0, 143, SIGTERM); }), 0);
  EXPECT_EQ(judged_after([](Driver& d) { d.Exit(0, 69); }), 0) << "belayd, mpirun or a device";
  EXPECT_EQ(judged_after([](Driver& d) { d.Exit(0, 73); }), 0) << "a full disk";
  EXPECT_EQ(judged_after([](Driver& d) {
              d.Feed(event::Exited{0, {.status = 137, .signal = SIGKILL, .out_of_memory = true}, d.now_});
            }),
            0);
  EXPECT_EQ(judged_after([](Driver& d) { d.Feed(event::Lost{0}); }), 0) << "its shim died";
  EXPECT_EQ(judged_after([](Driver& d) {
              d.Feed(event::StopAsked{"SIGTERM"});
              d.Exit(0, 139, SIGSEGV);
            }),
            0)
      << "it was told to stop";
  EXPECT_EQ(judged_after([](Driver& d) { d.Exit(0, 139, SIGSEGV); }), 1) << "and this does";
}

TEST_F(ResumeFateTest, AFreshStartAndAProgramThatWantsNoJudgementAreNotJudged) {
  d.RunAll();
  for (int rank = 0; rank < 2; ++rank) d.Attach(rank, 3);
  d.Exit(0, 139, SIGSEGV);
  Settle();
  EXPECT_TRUE(Judgements().empty());

  d = Driver();
  Resume(103, 0);
  d.Exit(0, 139, SIGSEGV);
  Settle();
  EXPECT_TRUE(Judgements().empty());
}

TEST_F(ResumeFateTest, IsProvedOnceEveryRankHasMadeTheStepsAndOnlyOnce) {
  Resume(109);
  d.Feed(event::Progress{0, At(110)});
  EXPECT_TRUE(Judgements().empty()) << "rank 1 has not";
  d.Feed(event::Progress{1, At(111)});
  ASSERT_EQ(Judgements().size(), 1U);
  EXPECT_EQ(Judgements()[0].fate, ResumeFate::kProved);
  d.Feed(event::Progress{1, At(112)});
  d.Exit(1, 139, SIGSEGV);
  Settle();
  EXPECT_EQ(Judgements().size(), 1U) << "what fails later has another cause";
}

TEST_F(ResumeFateTest, TheNextGenerationIsJudgedAnew) {
  Resume();
  d.Exit(1, 139, SIGSEGV);
  Settle();
  d.Exit(0, 137, SIGKILL);
  d.Down();
  d.Wait(60s);
  Resume();
  d.Exit(1, 139, SIGSEGV);
  Settle();
  EXPECT_EQ(Judgements().size(), 2U);
}

}  // namespace
}  // namespace belay::launcher
