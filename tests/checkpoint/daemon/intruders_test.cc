// What a daemon may meet on its socket besides its clients.
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "runtime/base/error_codes.h"
#include "tests/checkpoint/daemon/daemon_harness.h"
#include "tests/runtime/base/thread_famine.h"

namespace belay::checkpoint {
namespace {

using base::Code;

std::uint32_t Number(Code code) { return static_cast<std::uint32_t>(code); }

class RawSocket {
 public:
  explicit RawSocket(const std::string& path) : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    EXPECT_EQ(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  void Write(const std::string& bytes) {
    static_cast<void>(::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL));
  }
  void WaitForEnd() {
    char buffer[4096];
    while (::recv(fd_.get(), buffer, sizeof buffer, 0) > 0) {
    }
  }

 private:
  base::UniqueFd fd_;
};

base::Result<wire::Welcome> Greet(const std::string& socket, const std::string& first_body) {
  BELAY_ASSIGN(auto connection, base::UnixTransport().Connect(socket, std::chrono::seconds(5)));
  BELAY_TRY(connection->Send({first_body, {}}));
  BELAY_ASSIGN(auto answer, connection->Receive(base::Duration(std::chrono::seconds(20))));
  wire::Welcome welcome;
  if (!answer || !welcome.ParseFromString(answer->body)) return base::Fail(Code::kProtocol, "no welcome");
  return welcome;
}

TEST(IntrudersTest, GarbageEndsItsConnectionAndNothingElse) {
  DaemonUnderTest daemon;
  daemon.Start();
  RawClient witness(daemon.socket());
  std::mt19937_64 random(7);
  for (int round = 0; round < 20; ++round) {
    RawSocket intruder(daemon.socket());
    std::string bytes(static_cast<std::size_t>(random() % 3000 + 16), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    intruder.Write(bytes);
    intruder.WaitForEnd();
  }
  EXPECT_TRUE(witness.List().ok());
}

TEST(IntrudersTest, GarbageAfterTheHelloEndsTheConnection) {
  DaemonUnderTest daemon;
  daemon.Start();
  auto connection = base::UnixTransport().Connect(daemon.socket(), std::chrono::seconds(5));
  ASSERT_TRUE(connection);
  wire::Hello hello;
  hello.set_protocol_version(1);
  ASSERT_TRUE((*connection)->Send({hello.SerializeAsString(), {}}));
  ASSERT_TRUE((*connection)->Receive(base::Duration(std::chrono::seconds(20))));
  ASSERT_TRUE((*connection)->Send({std::string(100, '\xFF'), {}}));
  const auto end = (*connection)->Receive(base::Duration(std::chrono::seconds(20)));
  EXPECT_TRUE(!end || !*end);
  EXPECT_TRUE(RawClient(daemon.socket()).List().ok());
}

TEST(IntrudersTest, AnotherProtocolVersionIsToldSo) {
  DaemonUnderTest daemon;
  daemon.Start();
  wire::Hello hello;
  hello.set_protocol_version(99);
  const auto welcome = Greet(daemon.socket(), hello.SerializeAsString());
  ASSERT_TRUE(welcome) << welcome.error().Text();
  EXPECT_EQ(welcome->failure().code(), Number(Code::kProtocolVersion));
  EXPECT_EQ(welcome->protocol_version(), 1U);
}

TEST(IntrudersTest, ARequestFromANewerClientIsUnsupported) {
  DaemonUnderTest daemon;
  daemon.Start();
  RawClient client(daemon.socket());
  EXPECT_EQ(client.Ask({}).code(), Number(Code::kUnsupported));
  EXPECT_TRUE(client.List().ok());
}

TEST(IntrudersTest, TooManyConnectionsAreRefusedAndRoomComesBack) {
  DaemonUnderTest daemon;
  daemon.Start();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 256; ++i) {
    clients.push_back(std::make_unique<RawClient>(daemon.socket()));
    ASSERT_TRUE(clients.back()->connected()) << i;
  }
  RawClient surplus(daemon.socket());
  EXPECT_FALSE(surplus.connected());
  EXPECT_EQ(surplus.welcome().failure().code(), Number(Code::kLimitExceeded));
  clients.clear();
  // Their ends may arrive a moment later.
  RawClient late(daemon.socket());
  for (int i = 0; i < 1000 && !late.connected(); ++i) late = RawClient(daemon.socket());
  EXPECT_TRUE(late.connected());
}

// Connects as user nobody and answers the welcome's failure code: 0 if welcome, 255 if there was none.
int GreetAsNobody(const std::string& socket) {
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(254);
    wire::Hello hello;
    hello.set_protocol_version(1);
    const auto welcome = Greet(socket, hello.SerializeAsString());
    ::_exit(welcome ? static_cast<int>(welcome->failure().code()) : 255);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WEXITSTATUS(status);
}

TEST(IntrudersTest, WithoutThreadsForNewConnectionsTheOthersGoOn) {
  if (!base::kThreadFamineIsSurvivable) GTEST_SKIP() << "a sanitizer does not outlive a lack of address space";
  DaemonUnderTest daemon;
  daemon.Start();
  RawClient witness(daemon.socket());
  ASSERT_TRUE(witness.List().ok());  // both its threads are there
  const auto limit_address_space = [&](std::uint64_t bytes) {
    const rlimit limit{bytes, RLIM_INFINITY};
    ASSERT_EQ(::prlimit(daemon.pid(), RLIMIT_AS, &limit, nullptr), 0);
  };
  std::ifstream statm(base::Str("/proc/", daemon.pid(), "/statm"));
  std::uint64_t pages = 0;
  ASSERT_TRUE(statm >> pages);
  wire::Hello hello;
  hello.set_protocol_version(1);
  std::vector<std::unique_ptr<base::Connection>> callers;
  int served = 0;
  // A connection takes two threads, a thread 8 MiB for its stack. Stacks of threads that ended are used again, so there
  // may be room for an even or an odd number: at one of the two limits a connection gets its first thread only.
  for (const int stacks : {1, 2}) {
    limit_address_space(pages * 4096 + (static_cast<std::uint64_t>(stacks) * 8 + 4) * (1U << 20));
    for (int i = 0; i < 8; ++i) {
      auto caller = base::UnixTransport().Connect(daemon.socket(), std::chrono::seconds(5));
      ASSERT_TRUE(caller) << caller.error().Text();
      base::IgnoreError((*caller)->Send({hello.SerializeAsString(), {}}), "it may be refused by now");
      const auto welcome = (*caller)->Receive(base::Duration(std::chrono::seconds(20)));
      if (welcome && *welcome) {
        const auto end = (*caller)->Receive(base::Duration(std::chrono::milliseconds(200)));
        if (!end && end.error().code == Code::kTimeout) ++served;
      }
      callers.push_back(std::move(*caller));
    }
    ASSERT_TRUE(daemon.Running()) << daemon.LogText();
    EXPECT_TRUE(witness.List().ok());
  }
  EXPECT_LT(served, 16) << "threads were never short";
  limit_address_space(RLIM_INFINITY);
  callers.clear();
  RawClient later(daemon.socket());
  EXPECT_TRUE(later.List().ok());
}

TEST(IntrudersTest, APrivateDaemonServesNoOtherUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  DaemonUnderTest daemon;
  ::chmod(daemon.scratch().c_str(), 0755);  // so that it is the daemon who refuses, not the folder
  daemon.Start({.faults = {}, .arguments = {"--private", "--linger", "60"}});
  EXPECT_EQ(GreetAsNobody(daemon.socket()), static_cast<int>(Code::kPermissionDenied));
  EXPECT_TRUE(RawClient(daemon.socket()).List().ok());
}

TEST(IntrudersTest, ASystemDaemonKeepsUsersApart) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root, to become another user";
  DaemonUnderTest daemon;
  ::chmod(daemon.scratch().c_str(), 0755);
  daemon.Start();
  RawClient launcher(daemon.socket());
  launcher.BeginRun("gpt", 1);
  auto ranks = AttachAll(daemon, "gpt", 1, 1);
  ASSERT_TRUE(Save(ranks, 100).ok());
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(254);
    RawClient stranger(daemon.socket());
    const bool apart = stranger.connected() && stranger.List().response.checkpoint_list().checkpoints_size() == 0 &&
                       stranger.Open("gpt", 100, true, {}).code() == Number(Code::kPermissionDenied) &&
                       stranger.BeginRun("gpt", 1).code() == Number(Code::kPermissionDenied) &&
                       stranger.BeginRun("mine", 1).ok();
    ::_exit(apart ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace belay::checkpoint
