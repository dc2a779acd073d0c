// Unix sockets against peers that misbehave: raw sockets instead of our own client.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <future>
#include <thread>
#include <vector>

#include "runtime/base/frame.h"
#include "runtime/base/process_spawner.h"
#include "runtime/base/rng.h"
#include "runtime/base/transport.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

UniqueFd RawConnect(const std::string& path) {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return fd;
}

class UnixTransportTest : public testing::Test {
 protected:
  void SetUp() override {
    auto listener = UnixTransport().Listen(address_);
    ASSERT_OK(listener);
    listener_ = *std::move(listener);
    raw_ = RawConnect(address_);
    server_ = **listener_->Accept();
  }
  void SendRaw(std::span<const std::byte> bytes) {
    ASSERT_EQ(::send(raw_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }
  static std::string Frame(const std::string& body) {
    Message message;
    message.body = body;
    const auto header = *EncodeFrameHeader(message);
    return std::string(reinterpret_cast<const char*>(header.data()), header.size()) + body;
  }
  void SendRaw(std::string_view text) { SendRaw(Bytes(text)); }
  // Sends bytes together with `count` descriptors.
  void SendWithDescriptors(std::string_view text, int count) {
    std::vector<int> fds(static_cast<std::size_t>(count), raw_.get());
    std::vector<char> control(CMSG_SPACE(sizeof(int) * fds.size()));
    iovec part{const_cast<char*>(text.data()), text.size()};
    msghdr packet{};
    packet.msg_iov = &part;
    packet.msg_iovlen = 1;
    packet.msg_control = control.data();
    packet.msg_controllen = control.size();
    cmsghdr* head = CMSG_FIRSTHDR(&packet);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int) * fds.size());
    std::memcpy(CMSG_DATA(head), fds.data(), sizeof(int) * fds.size());
    ASSERT_EQ(::sendmsg(raw_.get(), &packet, MSG_NOSIGNAL), static_cast<ssize_t>(text.size()));
  }
  static std::size_t OpenNow() { return PosixFileSystem().List("/proc/self/fd")->size(); }

  ScratchFolder folder_;
  std::string address_ = folder_ / "socket";
  std::unique_ptr<Listener> listener_;
  UniqueFd raw_;
  std::unique_ptr<Connection> server_;
};

TEST_F(UnixTransportTest, GarbageEndsTheConnection) {
  SendRaw("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_CODE(server_->Receive(seconds(30)), kProtocol);
  EXPECT_CODE(server_->Receive(seconds(30)), kUnavailable);
  EXPECT_CODE(server_->Send(Message()), kUnavailable);
}

TEST_F(UnixTransportTest, RandomBytesNeverPassForAMessage) {
  constexpr std::uint64_t kSeed = 42;
  Rng rng(kSeed);
  for (int i = 0; i < 200; ++i) {
    SCOPED_TRACE(Str("seed ", kSeed, " round ", i));
    raw_ = RawConnect(address_);
    server_ = **listener_->Accept();
    std::string frame = Frame(std::string(rng.Below(300), 'x'));
    frame[rng.Below(frame.size())] ^= static_cast<char>(1U << rng.Below(8));
    SendRaw(frame);
    ::shutdown(raw_.get(), SHUT_WR);
    EXPECT_FALSE(server_->Receive(seconds(30)).has_value());
  }
}

TEST_F(UnixTransportTest, AnOversizeFrameIsRefusedByItsHeader) {
  std::string header = Frame("").substr(0, kFrameHeaderBytes);
  header[11] = '\x7F';
  SendRaw(header);
  EXPECT_CODE(server_->Receive(seconds(30)), kLimitExceeded);
}

TEST_F(UnixTransportTest, AnotherFrameVersionIsNamed) {
  std::string frame = Frame("x");
  frame[4] = 9;
  SendRaw(frame);
  EXPECT_CODE(server_->Receive(seconds(30)), kProtocolVersion);
}

TEST_F(UnixTransportTest, AWrongHashIsAProtocolError) {
  std::string frame = Frame("hello");
  frame.back() = '!';
  SendRaw(frame);
  EXPECT_CODE(server_->Receive(seconds(30)), kProtocol);
}

TEST_F(UnixTransportTest, AMessageInSingleBytesIsAMessage) {
  std::thread sender([&] {
    for (const char byte : Frame("slowly")) SendRaw(std::string_view(&byte, 1));
  });
  EXPECT_EQ((*server_->Receive(seconds(30)))->body, "slowly");
  sender.join();
}

TEST_F(UnixTransportTest, DeathWithinAMessageIsNoGoodOrder) {
  SendRaw(std::string_view(Frame("hello")).substr(0, 18));
  raw_.Reset();
  EXPECT_CODE(server_->Receive(seconds(30)), kUnavailable);
}

TEST_F(UnixTransportTest, DeathWithinAHeaderIsNoGoodOrder) {
  SendRaw(std::string_view(Frame("hello")).substr(0, 5));
  raw_.Reset();
  EXPECT_CODE(server_->Receive(seconds(30)), kUnavailable);
}

TEST_F(UnixTransportTest, ADeadlineWithinAMessageEndsTheConnection) {
  SendRaw(std::string_view(Frame("hello")).substr(0, 18));
  EXPECT_CODE(server_->Receive(milliseconds(20)), kTimeout);
  EXPECT_CODE(server_->Receive(seconds(30)), kUnavailable);
}

TEST_F(UnixTransportTest, DescriptorsThatWereNotAnnouncedAreRefusedAndClosed) {
  const std::size_t before = OpenNow();
  SendWithDescriptors(Frame("x"), 3);
  EXPECT_CODE(server_->Receive(seconds(30)), kProtocol);
  EXPECT_EQ(OpenNow(), before);
}

TEST_F(UnixTransportTest, TooManyDescriptorsAreRefusedAndClosed) {
  const std::size_t before = OpenNow();
  SendWithDescriptors(Frame("x"), 100);
  EXPECT_CODE(server_->Receive(seconds(30)), kProtocol);
  EXPECT_EQ(OpenNow(), before);
}

TEST_F(UnixTransportTest, DescriptorsHiddenInABodyAreDropped) {
  const std::size_t before = OpenNow();
  const std::string frame = Frame("hello");
  SendRaw(std::string_view(frame).substr(0, 18));
  SendWithDescriptors(std::string_view(frame).substr(18), 3);
  const auto message = server_->Receive(seconds(30));
  ASSERT_OK(message);
  EXPECT_TRUE((*message)->descriptors.empty());
  EXPECT_EQ(OpenNow(), before);
}

TEST_F(UnixTransportTest, APeerThatDoesNotReadTimesOut) {
  Message large;
  large.body = std::string(8 << 20, 'x');
  const SteadyTime start = SystemClock().Now();
  EXPECT_CODE(server_->Send(large), kTimeout);
  EXPECT_GE(SystemClock().Now() - start, seconds(5));
  EXPECT_CODE(server_->Send(Message()), kUnavailable) << "half a frame is out";
}

TEST_F(UnixTransportTest, WithoutATimeoutAPeerMayTakeItsTime) {
  const UniqueFd other_raw = RawConnect(address_);
  const std::unique_ptr<Connection> other = **listener_->Accept();
  Message large;
  large.body = std::string(8 << 20, 'x');
  server_->SendWithoutTimeout();
  std::promise<void> begins;
  std::future<Status> sent = std::async(std::launch::async, [&] {
    begins.set_value();
    return server_->Send(large);
  });
  begins.get_future().wait();
  // The send timeout of a connection that has one, begun later, passes first.
  EXPECT_CODE(other->Send(large), kTimeout);
  std::vector<char> room(1 << 20);
  for (std::size_t left = kFrameHeaderBytes + large.body.size(); left > 0;) {
    const ssize_t got = ::read(raw_.get(), room.data(), room.size());
    ASSERT_GT(got, 0);
    left -= static_cast<std::size_t>(got);
  }
  EXPECT_OK(sent.get());
}

TEST_F(UnixTransportTest, WithoutATimeoutAShutdownStillEndsTheWait) {
  Message large;
  large.body = std::string(8 << 20, 'x');
  server_->SendWithoutTimeout();
  std::promise<void> begins;
  std::future<Status> sent = std::async(std::launch::async, [&] {
    begins.set_value();
    return server_->Send(large);
  });
  begins.get_future().wait();
  server_->Shutdown();
  EXPECT_CODE(sent.get(), kUnavailable);
}

TEST_F(UnixTransportTest, AKilledPeerIsGoodOrderBetweenMessages) {
  SpawnRequest request;
  request.argv = {"/bin/sleep", "1000"};
  request.inherited = {raw_.get()};
  const auto pid = PosixProcessSpawner().Spawn(std::move(request));
  ASSERT_OK(pid);
  raw_.Reset();  // the child has the only other end now
  EXPECT_CODE(server_->Receive(milliseconds(1)), kTimeout);
  ASSERT_OK(PosixProcessSpawner().SignalGroup(*pid, SIGKILL));
  const auto end = server_->Receive(seconds(30));
  ASSERT_OK(end);
  EXPECT_FALSE(end->has_value());
  EXPECT_OK(PosixProcessSpawner().Wait(*pid, std::nullopt));
}

TEST_F(UnixTransportTest, TakesAStaleSocketOver) {
  const std::string stale = folder_ / "stale";
  UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, stale.data(), stale.size());
  ASSERT_EQ(::bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  dead.Reset();
  EXPECT_CODE(UnixTransport().Connect(stale, seconds(1)), kUnavailable);
  const auto listener = UnixTransport().Listen(stale);
  ASSERT_OK(listener);
  EXPECT_OK(UnixTransport().Connect(stale, seconds(1)));
}

TEST_F(UnixTransportTest, NeverTakesAFileForAStaleSocket) {
  ASSERT_OK(WriteFileDurably(PosixFileSystem(), folder_ / "file", "precious"));
  EXPECT_CODE(UnixTransport().Listen(folder_ / "file"), kAlreadyExists);
  EXPECT_EQ(*ReadWholeFile(PosixFileSystem(), folder_ / "file", 100), "precious");
}

TEST_F(UnixTransportTest, RemovesOnlyItsOwnSocket) {
  ASSERT_EQ(::unlink(address_.c_str()), 0);
  const auto successor = UnixTransport().Listen(address_);
  ASSERT_OK(successor);
  listener_.reset();
  EXPECT_OK(UnixTransport().Connect(address_, seconds(1)));
}

TEST_F(UnixTransportTest, ASocketThatIsHandedOverKeepsItsNameAndItsCallers) {
  UniqueFd socket = listener_->HandOver();
  ASSERT_TRUE(socket.valid());
  listener_.reset();
  const auto caller = UnixTransport().Connect(address_, seconds(1));
  ASSERT_OK(caller);  // it waits
  EXPECT_CODE(TakeUpUnixListener(folder_ / "elsewhere", socket.Duplicate()), kInvalidArgument);
  EXPECT_CODE(TakeUpUnixListener(address_, UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC))), kInvalidArgument);
  auto next = TakeUpUnixListener(address_, std::move(socket));
  ASSERT_OK(next);
  ASSERT_TRUE((*next)->Accept()->has_value());
  next->reset();
  EXPECT_CODE(UnixTransport().Connect(address_, seconds(1)), kUnavailable) << "the last one removes it";
}

TEST_F(UnixTransportTest, AnOverlongPathIsTheUsersError) {
  EXPECT_CODE(UnixTransport().Listen("/tmp/" + std::string(200, 'x')), kInvalidArgument);
  EXPECT_CODE(UnixTransport().Connect("/tmp/" + std::string(200, 'x'), seconds(1)), kInvalidArgument);
}

TEST_F(UnixTransportTest, NobodyThereIsUnavailable) {
  EXPECT_CODE(UnixTransport().Connect(folder_ / "nobody", seconds(1)), kUnavailable);
}

}  // namespace
}  // namespace belay::base
