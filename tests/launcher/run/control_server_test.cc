#include "launcher/run/control_server.h"

#include <functional>
#include <utility>

#include "launcher/protocol/event_queue.h"
#include "runtime/base/environment.h"
#include "tests/runtime/base/test_util.h"

namespace belay::launcher {
namespace {

using base::Connection;
using std::chrono::seconds;

constexpr char kMark[] = "00000000000000ab";

// Unix sockets whose listener cannot accept at first, as without descriptors.
class StumblingTransport final : public base::Transport {
 public:
  explicit StumblingTransport(int failures) : failures_(failures) {}
  base::Result<std::unique_ptr<Connection>> Connect(const std::string& path, base::Duration timeout) override {
    return base::UnixTransport().Connect(path, timeout);
  }
  base::Result<std::unique_ptr<base::Listener>> Listen(const std::string& path) override {
    BELAY_ASSIGN(auto listener, base::UnixTransport().Listen(path));
    return std::make_unique<StumblingListener>(failures_, std::move(listener));
  }

 private:
  class StumblingListener final : public base::Listener {
   public:
    StumblingListener(int failures, std::unique_ptr<base::Listener> listener)
        : failures_(failures), listener_(std::move(listener)) {}
    base::Result<std::optional<std::unique_ptr<Connection>>> Accept() override {
      if (failures_-- > 0) return base::FailErrno(EMFILE, "cannot accept");
      return listener_->Accept();
    }
    void Shutdown() override { listener_->Shutdown(); }

   private:
    int failures_;
    std::unique_ptr<base::Listener> listener_;
  };
  const int failures_;
};

class ControlServerTest : public testing::Test {
 protected:
  void Listen(base::Transport& transport = base::UnixTransport()) {
    auto server = ControlServer::Listen(transport, socket_, base::UserId(), console_,
                                        {.post =
                                             [this](std::uint64_t attempt, Event event) {
                                               events_.Push({attempt, std::move(event)});
                                             },
                                         .status =
                                             [] {
                                               wire::JobStatus status;
                                               status.set_job("j");
                                               return status;
                                             }});
    ASSERT_OK(server);
    server_ = *std::move(server);
    server_->OpenAttempt(1, kMark, 2);
  }
  std::unique_ptr<Connection> Call() {
    auto connection = base::UnixTransport().Connect(socket_, seconds(30));
    EXPECT_OK(connection);
    return *std::move(connection);
  }
  void AskStatus() {
    const auto command = Call();
    wire::ToLauncher question;
    question.mutable_ask_status();
    ASSERT_OK(Send(*command, question));
    const auto reply = ReceiveFromLauncher(*command, seconds(30));
    ASSERT_OK(reply);
    ASSERT_TRUE(reply->has_value());
    EXPECT_EQ((*reply)->job_status().job(), "j");
  }
  std::unique_ptr<Connection> Shim(std::int32_t rank) {
    auto connection = Call();
    wire::ToLauncher message;
    wire::Register& registration = *message.mutable_registration();
    registration.set_protocol_version(kRankProtocolVersion);
    registration.set_attempt(kMark);
    registration.set_rank(rank);
    registration.set_world_size(2);
    EXPECT_OK(Send(*connection, message));
    EXPECT_EQ(Next<event::Registered>().rank, rank);
    return connection;
  }
  // And sees to it that the server has read it.
  void SendEnding(Connection& shim, std::int64_t at) {
    wire::ToLauncher message;
    message.mutable_ending()->set_steady_ns(at);
    EXPECT_OK(Send(shim, message));
    message.mutable_started();
    EXPECT_OK(Send(shim, message));
    Next<event::Started>();
  }
  static void SendExited(Connection& shim, std::int64_t at) {
    wire::ToLauncher message;
    message.mutable_exited()->set_steady_ns(at);
    message.mutable_exited()->set_status(1);
    EXPECT_OK(Send(shim, message));
  }
  // The next event, which must be of this kind; progress is passed over.
  template <typename T>
  T Next() {
    while (true) {
      auto event = events_.Pop(seconds(30));
      if (!event) {
        ADD_FAILURE() << "no event came";
        return {};
      }
      if (std::holds_alternative<event::Progress>(event->second)) continue;
      if (const T* wanted = std::get_if<T>(&event->second)) return *wanted;
      ADD_FAILURE() << "an event of another kind: " << event->second.index();
      return {};
    }
  }
  static std::size_t Threads() { return base::PosixFileSystem().List("/proc/self/task")->size(); }

  base::ScratchFolder folder_;
  const std::string socket_ = folder_ / "control.sock";
  EventQueue<std::pair<std::uint64_t, Event>> events_;
  Console console_{{.quiet = true}};
  std::unique_ptr<ControlServer> server_;
};

TEST_F(ControlServerTest, AThreadLeavesWithItsCaller) {
  Listen();
  const std::size_t before = Threads();
  for (int i = 0; i < 100; ++i) AskStatus();
  // The last callers' threads may still be ending; each call joins those that have.
  for (int i = 0; i < 10000 && Threads() > before + 5; ++i) AskStatus();
  EXPECT_LE(Threads(), before + 5);
}

TEST_F(ControlServerTest, TakesCallsAgainAfterTrouble) {
  StumblingTransport transport(2);
  Listen(transport);
  AskStatus();
}

TEST_F(ControlServerTest, LeavesInTheMiddleOfTrouble) {
  StumblingTransport transport(1'000'000'000);
  Listen(transport);
  server_.reset();
}

TEST_F(ControlServerTest, EndsAreToldInTheOrderOfTheDeaths) {
  Listen();
  const auto slow = Shim(0);
  const auto quick = Shim(1);
  SendEnding(*slow, 100);
  SendEnding(*quick, 200);
  SendExited(*quick, 200);
  SendExited(*slow, 100);
  const auto first = Next<event::Exited>();
  EXPECT_EQ(first.rank, 0);
  EXPECT_EQ(first.at, base::SteadyTime(base::Duration(100)));
  EXPECT_EQ(Next<event::Exited>().rank, 1);
}

TEST_F(ControlServerTest, AnEndThatIsLostIsNotWaitedFor) {
  Listen();
  auto slow = Shim(0);
  const auto quick = Shim(1);
  SendEnding(*slow, 100);
  SendExited(*quick, 200);
  slow.reset();  // killed over its log
  EXPECT_EQ(Next<event::Lost>().rank, 0);
  EXPECT_EQ(Next<event::Exited>().rank, 1);
}

TEST_F(ControlServerTest, AnEndThatIsNotTheFirstWaitsForNobodyLater) {
  Listen();
  const auto early = Shim(0);
  const auto late = Shim(1);
  SendEnding(*late, 200);
  SendExited(*early, 100);
  EXPECT_EQ(Next<event::Exited>().rank, 0);
}

TEST_F(ControlServerTest, AnAttemptThatIsGivenUpKeepsNobody) {
  Listen();
  const auto slow = Shim(0);
  const auto quick = Shim(1);
  SendEnding(*slow, 100);
  SendExited(*quick, 200);
  server_->CloseAttempt();
  // Both connections end; whoever is told of first, nobody waits for an end that will not come.
  int ended = 0;
  while (ended < 2) {
    const auto event = events_.Pop(seconds(30));
    ASSERT_TRUE(event);
    ended += std::holds_alternative<event::Lost>(event->second) ? 1 : 0;
  }
}

}  // namespace
}  // namespace belay::launcher
