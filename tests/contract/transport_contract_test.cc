// What every Transport promises (runtime/base/transport.h): Unix sockets, and queues in memory, bare and wrapped.
#include <fcntl.h>
#include <sys/stat.h>

#include <thread>

#include "runtime/base/environment.h"
#include "runtime/base/fault/faulty_transport.h"
#include "runtime/base/sim/sim_transport.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

struct Unix {
  ScratchFolder folder;
  Transport& transport() { return UnixTransport(); }
  std::string address() { return folder / "s"; }
};
struct Simulated {
  SimTransport sim{SystemClock(), SimWaiting::kThreads};
  Transport& transport() { return sim; }
  std::string address() { return "/s"; }
};
struct Wrapped {
  ScratchFolder folder;
  FaultyTransport faulty{UnixTransport()};
  Transport& transport() { return faulty; }
  std::string address() { return folder / "s"; }
};

Message Text(std::string body) {
  Message message;
  message.body = std::move(body);
  return message;
}

template <typename Place>
class TransportContract : public testing::Test {
 protected:
  void SetUp() override {
    auto listener = place_.transport().Listen(place_.address());
    ASSERT_OK(listener);
    listener_ = *std::move(listener);
    auto client = place_.transport().Connect(place_.address(), seconds(5));
    ASSERT_OK(client);
    client_ = *std::move(client);
    auto server = listener_->Accept();
    ASSERT_OK(server);
    server_ = **std::move(server);
  }
  static std::string Next(Connection& connection) {
    auto message = connection.Receive(seconds(30));
    EXPECT_TRUE(message.has_value()) << message.error().Text();
    EXPECT_TRUE(message.has_value() && message->has_value()) << "closed";
    return message.has_value() && message->has_value() ? (*message)->body : "";
  }

  Place place_;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Connection> client_, server_;
};
using Places = testing::Types<Unix, Simulated, Wrapped>;
TYPED_TEST_SUITE(TransportContract, Places);

TYPED_TEST(TransportContract, CarriesWholeMessagesInOrderBothWays) {
  for (const char* body : {"one", "", "three"}) EXPECT_OK(this->client_->Send(Text(body)));
  EXPECT_EQ(this->Next(*this->server_), "one");
  EXPECT_EQ(this->Next(*this->server_), "");
  EXPECT_OK(this->server_->Send(Text("back")));
  EXPECT_EQ(this->Next(*this->server_), "three");
  EXPECT_EQ(this->Next(*this->client_), "back");
}

TYPED_TEST(TransportContract, CarriesTheLargestMessageAndRefusesALargerOne) {
  const Message largest = Text(std::string(kMessageBytesMax, 'x'));
  std::thread sender([&] { EXPECT_OK(this->client_->Send(largest)); });
  EXPECT_TRUE(this->Next(*this->server_) == largest.body);
  sender.join();
  EXPECT_CODE(this->client_->Send(Text(std::string(kMessageBytesMax + 1, 'x'))), kLimitExceeded);
  EXPECT_OK(this->client_->Send(Text("still good")));
  EXPECT_EQ(this->Next(*this->server_), "still good");
}

TYPED_TEST(TransportContract, CarriesDescriptorsClosedOnExec) {
  ScratchFolder folder;
  Message message = Text("with files");
  for (std::size_t i = 0; i < kDescriptorsMax; ++i) {
    message.descriptors.emplace_back(::open((folder / Str(i)).c_str(), O_RDWR | O_CREAT, 0600));
  }
  EXPECT_OK(this->client_->Send(message));
  EXPECT_OK(this->client_->Send(Text("without")));
  auto got = this->server_->Receive(seconds(30));
  ASSERT_OK(got);
  ASSERT_EQ((*got)->descriptors.size(), kDescriptorsMax);
  for (std::size_t i = 0; i < kDescriptorsMax; ++i) {
    struct stat sent {};
    struct stat received {};
    ASSERT_EQ(::fstat(message.descriptors[i].get(), &sent), 0);
    ASSERT_EQ(::fstat((*got)->descriptors[i].get(), &received), 0);
    EXPECT_EQ(sent.st_ino, received.st_ino);
    EXPECT_NE(::fcntl((*got)->descriptors[i].get(), F_GETFD) & FD_CLOEXEC, 0);
  }
  got = this->server_->Receive(seconds(30));
  EXPECT_EQ((*got)->body, "without");
  EXPECT_TRUE((*got)->descriptors.empty());
}

TYPED_TEST(TransportContract, RefusesTooManyDescriptors) {
  Message message = Text("too many");
  for (std::size_t i = 0; i <= kDescriptorsMax; ++i) message.descriptors.emplace_back(::dup(0));
  EXPECT_CODE(this->client_->Send(message), kLimitExceeded);
}

TYPED_TEST(TransportContract, EndsInGoodOrderAfterTheLastMessage) {
  EXPECT_OK(this->client_->Send(Text("last words")));
  this->client_.reset();
  EXPECT_EQ(this->Next(*this->server_), "last words");
  const auto end = this->server_->Receive(seconds(30));
  ASSERT_OK(end);
  EXPECT_FALSE(end->has_value());
}

TYPED_TEST(TransportContract, TellsThatThePeerHasClosedBeforeItsLastMessageIsRead) {
  EXPECT_OK(this->client_->Send(Text("last words")));
  EXPECT_FALSE(this->server_->PeerHasClosed());
  this->client_.reset();
  EXPECT_TRUE(this->server_->PeerHasClosed());
  EXPECT_EQ(this->Next(*this->server_), "last words");
}

TYPED_TEST(TransportContract, SendingToAPeerThatHasGoneFails) {
  this->server_.reset();
  EXPECT_CODE(this->client_->Send(Text("anybody?")), kUnavailable);
}

TYPED_TEST(TransportContract, ADeadlineBetweenMessagesLeavesTheConnectionUsable) {
  EXPECT_CODE(this->server_->Receive(milliseconds(1)), kTimeout);
  EXPECT_CODE(this->server_->Receive(Duration::zero()), kTimeout);
  EXPECT_OK(this->client_->Send(Text("late")));
  EXPECT_EQ(this->Next(*this->server_), "late");
}

TYPED_TEST(TransportContract, ShutdownWakesReceive) {
  std::thread receiver([&] {
    const auto end = this->server_->Receive(std::nullopt);
    EXPECT_TRUE(end.has_value() && !end->has_value());
  });
  this->server_->Shutdown();
  receiver.join();
  EXPECT_CODE(this->server_->Send(Text("x")), kUnavailable);
  const auto end = this->server_->Receive(std::nullopt);
  EXPECT_TRUE(end.has_value() && !end->has_value());
}

TYPED_TEST(TransportContract, ShutdownWakesAccept) {
  std::thread acceptor([&] {
    const auto end = this->listener_->Accept();
    EXPECT_TRUE(end.has_value() && !end->has_value());
  });
  this->listener_->Shutdown();
  acceptor.join();
}

TYPED_TEST(TransportContract, ManyThreadsSendWholeMessages) {
  constexpr int kThreads = 4;
  constexpr int kEach = 50;
  std::vector<std::thread> senders;
  for (int t = 0; t < kThreads; ++t) {
    senders.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        EXPECT_OK(this->client_->Send(Text(std::string(10000, static_cast<char>('a' + t)))));
      }
    });
  }
  for (int i = 0; i < kThreads * kEach; ++i) {
    const std::string body = this->Next(*this->server_);
    ASSERT_EQ(body.size(), 10000U);
    ASSERT_EQ(body.find_first_not_of(body[0]), std::string::npos) << "two messages mixed";
  }
  for (std::thread& sender : senders) sender.join();
}

TYPED_TEST(TransportContract, OneAddressOneListener) {
  EXPECT_CODE(this->place_.transport().Listen(this->place_.address()), kAlreadyExists);
  this->listener_.reset();
  EXPECT_CODE(this->place_.transport().Connect(this->place_.address(), seconds(1)), kUnavailable);
  EXPECT_OK(this->place_.transport().Listen(this->place_.address()));
}

TYPED_TEST(TransportContract, TellsWhoThePeerIs) {
  EXPECT_EQ(this->server_->PeerIdentity().uid, UserId());
  EXPECT_EQ(this->server_->PeerIdentity().pid, ProcessId());
}

}  // namespace
}  // namespace belay::base
