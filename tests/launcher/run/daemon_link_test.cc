// The launcher's link to a real belayd that dies under its run.
#include "launcher/run/daemon_link.h"

#include <gtest/gtest.h>

#include "tests/checkpoint/client/belayd_process.h"

namespace belay::launcher {
namespace {

using base::Code;
using checkpoint::BelaydProcess;

const checkpoint::JobKey kJob{"default", "gpt"};

class DaemonLinkTest : public testing::Test {
 protected:
  void SetUp() override {
    auto grant = link.Begin(2, {});
    ASSERT_TRUE(grant) << grant.error().Text();
    generation = grant->generation;
    daemon.Kill();
    daemon.Start();
  }
  bool Reconnect() {
    const std::stop_source never;
    return link.KeepReconnecting(never.get_token(), [this](const base::Error& error) { troubles.push_back(error); });
  }

  BelaydProcess daemon{BELAYD_PROGRAM};
  DaemonLink link{{.data_dir = daemon.data_dir(), .socket = daemon.socket()}, kJob};
  base::Generation generation;
  std::vector<base::Error> troubles;
};

TEST_F(DaemonLinkTest, HoldsItsRunAgainWhenTheDaemonIsBack) {
  ASSERT_TRUE(Reconnect());
  EXPECT_TRUE(troubles.empty());
  EXPECT_EQ(daemon.Connect()->BeginRun(kJob, 2).error().code, Code::kJobBusy);
  const auto next = link.Begin(2, generation);
  ASSERT_TRUE(next) << next.error().Text();
  EXPECT_EQ(next->generation, base::Generation(generation.value() + 1)) << "the one before was not used up";
}

TEST_F(DaemonLinkTest, SaysSoWhenAnotherRunHasTakenTheJobMeanwhile) {
  const auto other = daemon.Connect();
  ASSERT_TRUE(other->BeginRun(kJob, 2));
  EXPECT_TRUE(Reconnect());
  ASSERT_EQ(troubles.size(), 1U);
  EXPECT_TRUE(JobIsTaken(troubles[0].code)) << troubles[0].Text();
}

}  // namespace
}  // namespace belay::launcher
