#include "runtime/base/sim/sim_transport.h"

#include "runtime/base/sim/sim_clock.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

using std::chrono::seconds;

class SimTransportTest : public testing::Test {
 protected:
  static Message Text(std::string body) {
    Message message;
    message.body = std::move(body);
    return message;
  }
  SimClock clock_;
  SimTransport transport_{clock_, SimWaiting::kJumps};
  std::pair<std::unique_ptr<Connection>, std::unique_ptr<Connection>> ends_ = transport_.Pair();
};

TEST_F(SimTransportTest, TimeJumpsToTheDelayedMessage) {
  transport_.SetDelay(seconds(10));
  const SteadyTime start = clock_.Now();
  EXPECT_OK(ends_.first->Send(Text("slow")));
  EXPECT_CODE(ends_.second->Receive(seconds(4)), kTimeout);
  EXPECT_EQ(clock_.Now() - start, seconds(4));
  EXPECT_EQ((*ends_.second->Receive(seconds(100)))->body, "slow");
  EXPECT_EQ(clock_.Now() - start, seconds(10));
}

TEST_F(SimTransportTest, LostMessagesStayLost) {
  transport_.DropNext(1);
  EXPECT_OK(ends_.first->Send(Text("lost")));
  EXPECT_OK(ends_.first->Send(Text("found")));
  EXPECT_EQ((*ends_.second->Receive(seconds(1)))->body, "found");
}

TEST_F(SimTransportTest, ACutIsNoGoodOrder) {
  EXPECT_OK(ends_.first->Send(Text("on its way")));
  transport_.CutAll();
  EXPECT_CODE(ends_.second->Receive(seconds(1)), kUnavailable);
  EXPECT_CODE(ends_.first->Receive(seconds(1)), kUnavailable);
  EXPECT_CODE(ends_.first->Send(Text("x")), kUnavailable);
}

TEST_F(SimTransportTest, RefusesWhileAskedTo) {
  auto listener = transport_.Listen("/s");
  transport_.SetRefused(true);
  EXPECT_CODE(transport_.Connect("/s", seconds(1)), kUnavailable);
  transport_.SetRefused(false);
  EXPECT_OK(transport_.Connect("/s", seconds(1)));
  EXPECT_CODE(transport_.Connect("/other", seconds(1)), kUnavailable);
}

TEST_F(SimTransportTest, PeersAreWhoTheTestSays) {
  transport_.SetPeer({.uid = 1234, .gid = 5, .pid = 6});
  EXPECT_EQ(transport_.Pair().first->PeerIdentity().uid, 1234U);
}

}  // namespace
}  // namespace belay::base
