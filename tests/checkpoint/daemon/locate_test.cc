#include "checkpoint/client/locate.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include "runtime/base/environment.h"
#include "tests/checkpoint/daemon/daemon_harness.h"

namespace belay::checkpoint {
namespace {

using base::Code;

// The environment that the rules read, put back afterwards.
class LocateTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = std::filesystem::path(testing::TempDir()) / "belay-locate-XXXXXX";
    folder = ::mkdtemp(pattern.data());
    for (const char* name : {"BELAY_DATA_DIR", "BELAY_SOCKET", "XDG_DATA_HOME"}) ::unsetenv(name);
    ::setenv("XDG_RUNTIME_DIR", folder.c_str(), 1);
    const std::string path = std::filesystem::path(BELAYD_PROGRAM).parent_path();
    ::setenv("PATH", (path + ":" + old_path).c_str(), 1);
  }
  void TearDown() override {
    ::setenv("PATH", old_path.c_str(), 1);
    ::unsetenv("XDG_RUNTIME_DIR");
    std::filesystem::remove_all(folder);
  }
  std::string old_path = base::GetEnvironment("PATH").value_or("");
  std::string folder;
};

TEST_F(LocateTest, TheDataDirectoryComesFromFlagThenEnvironmentThenDefault) {
  ::setenv("HOME", "/home/someone", 1);
  EXPECT_EQ(*ResolveDataDirectory(std::nullopt), "/home/someone/.local/share/belay");
  ::setenv("XDG_DATA_HOME", "/xdg", 1);
  EXPECT_EQ(*ResolveDataDirectory(std::nullopt), "/xdg/belay");
  ::setenv("BELAY_DATA_DIR", "/from/env/", 1);
  EXPECT_EQ(*ResolveDataDirectory(std::nullopt), "/from/env");
  EXPECT_EQ(*ResolveDataDirectory("/flag//a/./b/../c/"), "/flag/a/c");
  EXPECT_EQ(ResolveDataDirectory("").error().code, Code::kInvalidArgument);
  EXPECT_TRUE(ResolveDataDirectory("relative")->starts_with("/"));
}

TEST_F(LocateTest, EachDataDirectoryHasItsOwnPrivateSocketInAGuardedFolder) {
  const auto one = PrivateSocketPath("/data/one");
  ASSERT_TRUE(one) << one.error().Text();
  EXPECT_EQ(*one, *PrivateSocketPath("/data/one"));
  EXPECT_NE(*one, *PrivateSocketPath("/data/two"));
  EXPECT_TRUE(one->starts_with(folder + "/belay/"));
  struct stat info {};
  ASSERT_EQ(::stat((folder + "/belay").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700U);
  ::chmod((folder + "/belay").c_str(), 0777);
  EXPECT_EQ(PrivateSocketPath("/data/one").error().code, Code::kPermissionDenied);
}

TEST_F(LocateTest, NobodyThereIsUnavailableWithThePathsTried) {
  const auto located = ConnectToDaemon({.data_dir = folder + "/data", .socket = folder + "/none.sock"});
  ASSERT_FALSE(located);
  EXPECT_EQ(located.error().code, Code::kUnavailable);
  EXPECT_NE(located.error().Text().find("none.sock"), std::string::npos);
}

TEST_F(LocateTest, ANamedSocketIsNeverStarted) {
  const auto located = ConnectOrStartDaemon({.data_dir = folder + "/data", .socket = folder + "/none.sock"});
  ASSERT_FALSE(located);
  EXPECT_EQ(located.error().code, Code::kUnavailable);
  EXPECT_FALSE(std::filesystem::exists(folder + "/data"));
}

TEST_F(LocateTest, APrivateDaemonIsStartedOnceAndFoundAgain) {
  const LocateRequest request{.data_dir = folder + "/data"};
  auto first = ConnectOrStartDaemon(request);
  ASSERT_TRUE(first) << first.error().Text();
  EXPECT_TRUE(first->started);
  EXPECT_EQ(first->data_dir, folder + "/data");
  const auto report = first->client->GetDaemonStatus();
  ASSERT_TRUE(report);
  EXPECT_EQ(report->pid, first->pid);
  EXPECT_TRUE(report->is_private);
  auto second = ConnectOrStartDaemon(request);
  ASSERT_TRUE(second) << second.error().Text();
  EXPECT_FALSE(second->started);
  second->client.reset();
  EXPECT_TRUE(first->client->StopDaemon(false));
  const auto exited = base::PosixProcessSpawner().Wait(first->pid, base::Duration(std::chrono::seconds(20)));
  ASSERT_TRUE(exited && *exited);
  EXPECT_EQ((*exited)->status, 0);
}

TEST_F(LocateTest, ADaemonThatCannotStartIsQuoted) {
  std::filesystem::create_directory(folder + "/data");
  std::filesystem::create_directory(folder + "/data/.belayd");
  std::filesystem::create_directory(folder + "/data/.belayd/lock");  // not a file: nobody can lock it
  const auto located = ConnectOrStartDaemon({.data_dir = folder + "/data"});
  ASSERT_FALSE(located);
  EXPECT_EQ(located.error().code, Code::kUnavailable);
  EXPECT_NE(located.error().Text().find("exit status"), std::string::npos) << located.error().Text();
}

}  // namespace
}  // namespace belay::checkpoint
