#include "checkpoint/client/locate.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "runtime/base/environment.h"
#include "runtime/base/shared_memory.h"
#include "tests/checkpoint/daemon/daemon_harness.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

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
  const auto latin = ResolveDataDirectory("/data/caf\xE9");
  ASSERT_FALSE(latin);
  EXPECT_EQ(latin.error().code, Code::kInvalidArgument);
  EXPECT_THAT(latin.error().Text(), AllOf(HasSubstr("/data/caf\uFFFD"), HasSubstr("not UTF-8")));
  EXPECT_EQ(*ResolveDataDirectory("/data/caf\u00e9"), "/data/caf\u00e9");
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
}

TEST_F(LocateTest, TheFolderForSocketsIsRefusedIfOthersCouldPutTheirsThere) {
  base::FileSystem& files = base::PosixFileSystem();
  const std::string ours = folder + "/belay";
  ASSERT_TRUE(PrivateRuntimeFolder(files));
  ::chmod(ours.c_str(), 0755);
  EXPECT_EQ(PrivateRuntimeFolder(files).value_or(""), ours) << "looking is no harm";
  for (const mode_t mode : {0777, 0775, 0722}) {
    ::chmod(ours.c_str(), mode);
    const auto refused = PrivateRuntimeFolder(files);
    ASSERT_FALSE(refused) << mode;
    EXPECT_EQ(refused.error().code, Code::kPermissionDenied);
    EXPECT_NE(refused.error().Text().find(ours), std::string::npos);
  }
  EXPECT_EQ(PrivateSocketPath("/data/one").error().code, Code::kPermissionDenied);
  std::filesystem::remove(ours);
  std::filesystem::create_directory(folder + "/elsewhere");  // ours, but whoever made the link can turn it
  ::chmod((folder + "/elsewhere").c_str(), 0700);
  std::filesystem::create_directory_symlink(folder + "/elsewhere", ours);
  EXPECT_EQ(PrivateRuntimeFolder(files).error().code, Code::kPermissionDenied);
  std::filesystem::remove(ours);
  std::filesystem::create_symlink(folder + "/nowhere", ours);
  EXPECT_EQ(PrivateRuntimeFolder(files).error().code, Code::kPermissionDenied);
}

TEST_F(LocateTest, ARuntimeFolderThatCannotHoldASocketIsAsGoodAsNone) {
  base::FileSystem& files = base::PosixFileSystem();
  const std::string otherwise = base::Str("/tmp/belay-", base::UserId());
  const std::string deep = folder + "/" + std::string(70, 'x');
  std::filesystem::create_directory(deep);
  for (const std::string& runtime : {deep, folder + "/missing", std::string("relative"), std::string()}) {
    ::setenv("XDG_RUNTIME_DIR", runtime.c_str(), 1);
    EXPECT_EQ(PrivateRuntimeFolder(files).value_or("refused"), otherwise) << runtime;
  }
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

TEST_F(LocateTest, APrivateDaemonIsStartedWithMoreDataFoldersAndOneThatRunsMustHaveThem) {
  LocateRequest request{.data_dir = folder + "/data"};
  request.also_data_dirs = {folder + "/nvme1/", folder + "/nvme2"};
  auto first = ConnectOrStartDaemon(request);
  ASSERT_TRUE(first) << first.error().Text();
  const auto report = first->client->GetDaemonStatus();
  ASSERT_TRUE(report);
  ASSERT_EQ(report->also.size(), 2U);
  EXPECT_EQ(report->also[0].path, folder + "/nvme1");
  EXPECT_TRUE(ConnectOrStartDaemon(request));
  request.also_data_dirs.push_back(folder + "/nvme3");
  const auto refused = ConnectOrStartDaemon(request);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kInvalidArgument);
  EXPECT_THAT(refused.error().Text(), AllOf(HasSubstr(folder + "/nvme3"), HasSubstr("belay daemon stop")));
  EXPECT_TRUE(first->client->StopDaemon(false));
  const auto exited = base::PosixProcessSpawner().Wait(first->pid, base::Duration(std::chrono::seconds(20)));
  EXPECT_TRUE(exited && *exited);
}

TEST_F(LocateTest, ADaemonThatTakesItsTimeIsWaitedForWithWords) {
  // A belayd that comes up only once somebody has been told that it is waited for.
  const std::string go = folder + "/go";
  std::filesystem::create_directory(folder + "/bin");
  std::ofstream(folder + "/bin/belayd") << "#!/bin/sh\nwhile [ ! -e '" << go << "' ]; do sleep 0.01; done\nexec '"
                                        << BELAYD_PROGRAM << "' \"$@\"\n";
  ::chmod((folder + "/bin/belayd").c_str(), 0755);
  ::setenv("PATH", (folder + "/bin:" + old_path).c_str(), 1);
  std::string words;
  LocateRequest request{.data_dir = folder + "/data"};
  request.words_pause = std::chrono::milliseconds(20);
  request.still_starting = [&](const std::string& said) {
    words = said;
    std::ofstream(go) << "now";
  };
  const auto located = ConnectOrStartDaemon(request);
  ASSERT_TRUE(located) << located.error().Text();
  EXPECT_THAT(words, AllOf(HasSubstr("still starting"), HasSubstr(folder + "/data/.belayd/belayd.log")));
  EXPECT_TRUE(located->client->StopDaemon(true));
  const auto exited = base::PosixProcessSpawner().Wait(located->pid, base::Duration(std::chrono::seconds(20)));
  EXPECT_TRUE(exited && *exited);
}

TEST_F(LocateTest, ADaemonThatCannotStartIsQuoted) {
  std::filesystem::create_directory(folder + "/data");
  std::filesystem::create_directory(folder + "/data/.belayd");
  std::filesystem::create_directory(folder + "/data/.belayd/lock");  // not a file: nobody can lock it
  const auto located = ConnectOrStartDaemon({.data_dir = folder + "/data"});
  ASSERT_FALSE(located);
  EXPECT_EQ(located.error().code, Code::kIo);
  EXPECT_THAT(located.error().Text(), AllOf(HasSubstr("exit status 74"), HasSubstr(folder + "/data/.belayd/lock")));
}

TEST_F(LocateTest, AnEarlierDaemonsLogIsNotGivenAsTheReason) {
  std::filesystem::create_directories(folder + "/data/.belayd/lock");
  std::ofstream(folder + "/data/.belayd/belayd.log") << "the disk of yesterday was full\n";
  const auto located = ConnectOrStartDaemon({.data_dir = folder + "/data"});
  ASSERT_FALSE(located);
  EXPECT_THAT(located.error().Text(), AllOf(HasSubstr("/lock"), Not(HasSubstr("yesterday"))));
}

TEST_F(LocateTest, TheDaemonsExitStatusBecomesTheCode) {
  const auto code_of = [&](int status, const std::string& words, int signal = 0) {
    StartedDaemon daemon;
    daemon.log_path = folder + "/none.log";
    auto memory = base::CreateSharedMemory({.name = "words", .size_bytes = 16384});
    EXPECT_TRUE(memory);
    daemon.words = std::move(*memory);
    EXPECT_EQ(::write(daemon.words.get(), words.data(), words.size()), static_cast<ssize_t>(words.size()));
    const base::Error why = WhyItEnded(daemon, {.pid = 1, .status = status, .signal = signal});
    EXPECT_THAT(why.Text(), HasSubstr(words));
    return why.code;
  };
  EXPECT_EQ(code_of(73, "cannot make folder /d: Read-only file system"), Code::kReadOnly);
  EXPECT_EQ(code_of(73, "cannot write /d/a: No space left on device"), Code::kNoSpace);
  EXPECT_EQ(code_of(73, "another belayd serves this data directory"), Code::kAlreadyExists);
  EXPECT_EQ(code_of(77, "cannot make folder /d: Permission denied"), Code::kPermissionDenied);
  EXPECT_EQ(code_of(64, "what is --nonsense?"), Code::kInvalidArgument);
  EXPECT_EQ(code_of(1, "what nobody foresaw"), Code::kUnavailable);
  EXPECT_EQ(code_of(137, "words before the end", 9), Code::kUnavailable);
}

TEST_F(LocateTest, AnEmptySocketVariableNamesNone) {
  EXPECT_EQ(NamedSocket(std::nullopt), std::nullopt);
  ::setenv("BELAY_SOCKET", "", 1);
  EXPECT_EQ(NamedSocket(std::nullopt), std::nullopt);
  ::setenv("BELAY_SOCKET", "/from/env", 1);
  EXPECT_EQ(NamedSocket(std::nullopt), "/from/env");
  EXPECT_EQ(NamedSocket("/flag"), "/flag");
  ::unsetenv("BELAY_SOCKET");
}

}  // namespace
}  // namespace belay::checkpoint
