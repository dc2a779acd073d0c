// What resumes have shown of checkpoints, kept by a real belayd through restarts, a lost index and kill -9.
#include "checkpoint/format/trust.h"

#include <csignal>
#include <filesystem>
#include <fstream>

#include "checkpoint/format/manifest.h"
#include "tests/checkpoint/daemon/daemon_harness.h"

namespace belay::checkpoint {
namespace {

using Steps = std::vector<std::int64_t>;

class TrustTest : public testing::Test {
 protected:
  // Steps 100 and 200 of generation 1, on two ranks.
  void SaveTwo() {
    RawClient launcher(daemon_.socket());
    ASSERT_TRUE(launcher.BeginRun("gpt", 2).ok());
    auto ranks = AttachAll(daemon_, "gpt", 1, 2, 3);
    ASSERT_TRUE(Save(ranks, 100).ok());
    ASSERT_TRUE(Save(ranks, 200).ok());
  }
  static Answer Judge(RawClient& client, std::int64_t step, wire::Judgement judgement, std::uint64_t by,
                      const std::string& reason = "rank 0 died") {
    wire::Request request;
    wire::JudgeCheckpoint& body = *request.mutable_judge_checkpoint();
    body.mutable_checkpoint()->mutable_key()->set_project("default");
    body.mutable_checkpoint()->mutable_key()->set_job("gpt");
    body.mutable_checkpoint()->set_step(step);
    body.mutable_checkpoint()->set_generation(1);
    body.set_judgement(judgement);
    body.set_by_generation(by);
    body.set_reason(reason);
    return client.Ask(request);
  }
  // A run that resumes from `step` and fails; what is believed then.
  std::string FailOn(std::int64_t step) {
    RawClient launcher(daemon_.socket());
    const Answer grant = launcher.BeginRun("gpt", 2);
    EXPECT_TRUE(grant.ok()) << grant;
    const Answer judged = Judge(launcher, step, wire::RESUME_FAILED, grant.response.run_grant().generation());
    EXPECT_TRUE(judged.ok()) << judged;
    return judged.response.judged().trust().state();
  }
  Steps StepsOffered() {
    RawClient client(daemon_.socket());
    Steps steps;
    const Answer points = client.Points("gpt");
    for (const auto& point : points.response.restore_point_list().points()) {
      if (!point.suspect()) steps.push_back(point.step());
    }
    return steps;
  }
  std::string Mark(std::int64_t step) const {
    return daemon_.data_dir() + "/default/gpt/" + CheckpointDirectoryName(base::Step(step), base::Generation(1)) + "/" +
           std::string(kTrustName);
  }

  DaemonUnderTest daemon_;
};

TEST_F(TrustTest, WhatFailedIsCountedThroughRestartsAndALostIndex) {
  daemon_.Start();
  SaveTwo();
  EXPECT_EQ(FailOn(200), "unknown");
  daemon_.Kill();
  daemon_.Start();
  EXPECT_EQ(StepsOffered(), (Steps{200, 100}));
  EXPECT_EQ(FailOn(200), "suspect") << "the first failure was not forgotten";
  EXPECT_EQ(StepsOffered(), (Steps{100}));

  daemon_.Kill();
  std::filesystem::remove_all(daemon_.data_dir() + "/.belayd/index");
  daemon_.Start();
  EXPECT_EQ(StepsOffered(), (Steps{100}));
  RawClient client(daemon_.socket());
  wire::Request reindex;
  reindex.mutable_reindex();
  ASSERT_TRUE(client.Ask(reindex).ok());
  EXPECT_EQ(StepsOffered(), (Steps{100}));
  const Answer grant = client.BeginRun("gpt", 2);
  EXPECT_EQ(grant.response.run_grant().newest_step(), 100);
  EXPECT_EQ(grant.response.run_grant().suspects(), 1U);
  EXPECT_EQ(CheckContent(client, "gpt", 200, 2, false), "") << "who names it may read it";

  ASSERT_TRUE(Judge(client, 200, wire::SAID_UNKNOWN, 0, "").ok());
  EXPECT_EQ(StepsOffered(), (Steps{200, 100}));
  EXPECT_FALSE(std::filesystem::exists(Mark(200))) << "nothing is left to say";
}

TEST_F(TrustTest, AMarkThatSomebodySpoiledSaysNothingAgainstTheCheckpoint) {
  daemon_.Start();
  SaveTwo();
  FailOn(200);
  FailOn(200);
  ASSERT_EQ(StepsOffered(), (Steps{100}));
  ASSERT_EQ(daemon_.Stop(), 0);
  std::ofstream(Mark(200)) << "nonsense";
  daemon_.Start();
  EXPECT_EQ(StepsOffered(), (Steps{200, 100}));
}

TEST_F(TrustTest, ADaemonKilledBeforeTheMarkForgetsThatOneWordAndNothingElse) {
  daemon_.Start();
  SaveTwo();
  FailOn(200);
  ASSERT_EQ(daemon_.Stop(), 0);
  daemon_.Start({.faults = "trust.before_mark=kill", .arguments = {}});
  {
    RawClient launcher(daemon_.socket());
    const Answer grant = launcher.BeginRun("gpt", 2);
    ASSERT_TRUE(grant.ok()) << grant;
    const Answer judged = Judge(launcher, 200, wire::RESUME_FAILED, grant.response.run_grant().generation());
    EXPECT_TRUE(judged.broken) << "it must not say that this is kept";
    ASSERT_EQ(daemon_.WaitExit(), 128 + SIGKILL);
  }
  daemon_.Start();
  EXPECT_EQ(StepsOffered(), (Steps{200, 100}));
  RawClient client(daemon_.socket());
  for (const std::int64_t step : {100, 200}) EXPECT_EQ(CheckContent(client, "gpt", step, 2, false), "");
  EXPECT_TRUE(LeftOver(daemon_, "gpt", {100, 200}).empty());
  // The launcher says it again.
  const Answer grant = client.BeginRun("gpt", 2);
  const Answer judged = Judge(client, 200, wire::RESUME_FAILED, grant.response.run_grant().generation());
  EXPECT_EQ(judged.response.judged().trust().state(), "suspect");
}

}  // namespace
}  // namespace belay::checkpoint
