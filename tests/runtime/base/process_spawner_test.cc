// What only real processes show.
#include "runtime/base/process_spawner.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sstream>
#include <thread>

#include "runtime/base/environment.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

using std::chrono::seconds;

class ProcessSpawnerTest : public testing::Test {
 protected:
  // Runs a shell script to its end and returns what it wrote.
  std::string Output(const std::string& script, SpawnRequest request = {}) {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
    UniqueFd reading(ends[0]);
    request.argv = {"sh", "-c", script};
    request.environment.emplace("PATH", "/usr/bin:/bin");
    request.output = UniqueFd(ends[1]);
    const auto pid = PosixProcessSpawner().Spawn(std::move(request));
    EXPECT_TRUE(pid.has_value()) << pid.error().Text();
    if (!pid) return "";
    std::string all;
    char room[4096];
    for (ssize_t got = 0; (got = ::read(reading.get(), room, sizeof room)) > 0;)
      all.append(room, static_cast<std::size_t>(got));
    EXPECT_TRUE((*PosixProcessSpawner().Wait(*pid, seconds(30))).has_value());
    while (!all.empty() && all.back() == '\n') all.pop_back();
    return all;
  }
};

TEST_F(ProcessSpawnerTest, GivesTheWholeEnvironmentAndNoMore) {
  ::setenv("BELAY_TEST_SECRET", "x", 1);
  EXPECT_EQ(Output("echo $A-$BELAY_TEST_SECRET", {.environment = {{"A", "1"}}}), "1-");
  ::unsetenv("BELAY_TEST_SECRET");
}

TEST_F(ProcessSpawnerTest, RunsInTheFolder) {
  EXPECT_EQ(Output("pwd", {.working_directory = "/proc"}), "/proc");
  SpawnRequest request;
  request.argv = {"/bin/true"};
  request.working_directory = "/no/such/folder";
  const auto missing = PosixProcessSpawner().Spawn(std::move(request));
  EXPECT_CODE(missing, kNotFound);
  EXPECT_THAT(missing.error().message, testing::HasSubstr("/no/such/folder"));
}

TEST_F(ProcessSpawnerTest, InputIsEmptyUnlessGiven) { EXPECT_EQ(Output("cat; echo end"), "end"); }

TEST_F(ProcessSpawnerTest, OnlyInheritedDescriptorsStayOpen) {
  // Without close-on-exec, as a careless library would leave them.
  const UniqueFd kept(::fcntl(0, F_DUPFD, 50));
  const UniqueFd hidden(::fcntl(0, F_DUPFD, 60));
  ASSERT_TRUE(kept.valid() && hidden.valid());
  const std::string check =
      Str("for i in ", kept.get(), ' ', hidden.get(), "; do [ -e /proc/$$/fd/$i ] && echo $i; done");
  SpawnRequest request;
  request.inherited = {kept.get()};
  EXPECT_EQ(Output(check, std::move(request)), Str(kept.get()));
}

TEST_F(ProcessSpawnerTest, LeadsItsOwnGroupOrSession) {
  const std::string ids = "cut -d ' ' -f 1,5,6 /proc/$$/stat";
  std::istringstream group(Output(ids));
  pid_t pid = 0, pgid = 0, sid = 0;
  group >> pid >> pgid >> sid;
  EXPECT_EQ(pid, pgid);
  EXPECT_EQ(sid, ::getsid(0));
  SpawnRequest request;
  request.new_session = true;
  std::istringstream session(Output(ids, std::move(request)));
  session >> pid >> pgid >> sid;
  EXPECT_EQ(pid, pgid);
  EXPECT_EQ(pid, sid);
}

TEST_F(ProcessSpawnerTest, SignalsStartUnblockedAndAtTheirDefaults) {
  IgnoreSigpipe();
  sigset_t term;
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  sigset_t before;
  ::pthread_sigmask(SIG_BLOCK, &term, &before);
  EXPECT_EQ(Output("grep -E 'Sig(Blk|Ign)' /proc/$$/status | grep -c 0000000000000000"), "2");
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

TEST_F(ProcessSpawnerTest, ChosenSignalsStartBlocked) {
  SpawnRequest request;
  request.blocked_signals = {SIGHUP, SIGTERM};  // bits 0 and 14 of the mask
  EXPECT_EQ(Output("grep SigBlk /proc/$$/status | cut -f 2", std::move(request)), "0000000000004001");
}

TEST_F(ProcessSpawnerTest, SignalsReachTheWholeGroup) {
  SpawnRequest request;
  request.argv = {"/bin/sh", "-c", "sleep 1000 & echo started; wait"};
  request.environment = {{"PATH", "/usr/bin:/bin"}};
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reading(ends[0]);
  request.output = UniqueFd(ends[1]);
  const auto pid = PosixProcessSpawner().Spawn(std::move(request));
  ASSERT_OK(pid);
  char room[100];
  ASSERT_GT(::read(reading.get(), room, sizeof room), 0);
  EXPECT_OK(PosixProcessSpawner().SignalGroup(*pid, SIGKILL));
  // The pipe ends only when the grandchild is gone too.
  EXPECT_EQ(::read(reading.get(), room, sizeof room), 0);
  EXPECT_EQ((**PosixProcessSpawner().Wait(*pid, std::nullopt)).signal, SIGKILL);
}

TEST_F(ProcessSpawnerTest, AProgramThatMayNotRunIsPermissionDenied) {
  ScratchFolder folder;
  ASSERT_OK(WriteFileDurably(PosixFileSystem(), folder / "program", "#!/bin/sh\n"));
  SpawnRequest request;
  request.argv = {folder / "program"};
  const auto denied = PosixProcessSpawner().Spawn(std::move(request));
  EXPECT_CODE(denied, kPermissionDenied);
  EXPECT_THAT(denied.error().message, testing::HasSubstr(folder / "program"));
}

TEST_F(ProcessSpawnerTest, TheChildDiesWithTheThreadThatMadeIt) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reading(ends[0]);
  pid_t child = 0;
  std::thread([&, writing = UniqueFd(ends[1])]() mutable {
    SpawnRequest request;
    request.argv = {"/bin/sleep", "1000"};
    request.output = std::move(writing);
    child = PosixProcessSpawner().Spawn(std::move(request)).value_or(0);
  }).join();
  ASSERT_GT(child, 0);
  const auto exit = PosixProcessSpawner().Wait(child, seconds(30));
  ASSERT_OK(exit);
  ASSERT_TRUE(exit->has_value());
  EXPECT_EQ((*exit)->signal, SIGKILL);
}

TEST_F(ProcessSpawnerTest, FailedStartsLeaveNeitherZombiesNorDescriptors) {
  const auto open_now = [] { return PosixFileSystem().List("/proc/self/fd")->size(); };
  const std::size_t before = open_now();
  for (int i = 0; i < 5; ++i) {
    SpawnRequest request;
    request.argv = {"/no/such/program"};
    EXPECT_CODE(PosixProcessSpawner().Spawn(std::move(request)), kNotFound);
  }
  EXPECT_EQ(open_now(), before);
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1);
  EXPECT_EQ(errno, ECHILD);
}

// Ends the process with 0 if all went as it should.
[[noreturn]] void AdoptAndKillARunaway() {
  IgnoreError(AdoptOrphans(), "the count below tells");
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) ::_exit(1);
  SpawnRequest request;
  request.argv = {"/bin/sh", "-c", "setsid sleep 1000 & echo x; exit 0"};
  request.environment = {{"PATH", "/usr/bin:/bin"}};
  request.output = UniqueFd(ends[1]);
  const auto pid = PosixProcessSpawner().Spawn(std::move(request));
  if (!pid) ::_exit(2);
  IgnoreError(PosixProcessSpawner().Wait(*pid, std::nullopt), "it has ended");
  const std::size_t killed = KillAllChildren(std::chrono::seconds(60));
  char room[10];
  if (::read(ends[0], room, sizeof room) != 2) ::_exit(3);
  if (::read(ends[0], room, sizeof room) != 0) ::_exit(4);  // ends only when the runaway is gone
  ::_exit(killed == 1 ? 0 : 5);
}

// In a process of its own: it becomes a subreaper and kills all it has.
TEST(KillAllChildrenDeathTest, ReachesThoseThatRanAway) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(AdoptAndKillARunaway(), testing::ExitedWithCode(0), "");
}

// A child that is killed and cannot be reaped, as one in the kernel's uninterruptible sleep: another process traces it
// and does not look at its end. 0: KillAllChildren came back; 100: nothing may be traced here.
[[noreturn]] void TryToKillOneThatStays() {
  int orders[2], answers[2];
  if (::pipe2(orders, O_CLOEXEC) != 0 || ::pipe2(answers, O_CLOEXEC) != 0) ::_exit(1);
  if (const pid_t parent = ::fork(); parent == 0) {
    if (::fork() != 0) ::_exit(0);  // the tracer is not to be our child
    ::close(orders[1]);
    pid_t child = 0;
    if (::read(orders[0], &child, sizeof child) != sizeof child) ::_exit(0);
    const char answer = ::ptrace(PTRACE_SEIZE, child, 0, 0) == 0 ? 'y' : 'n';
    IgnoreError(::write(answers[1], &answer, 1) == 1 ? Status() : Fail(Code::kIo, "write"), "the test sees it");
    char end = 0;
    while (::read(orders[0], &end, 1) > 0) {
    }
    ::_exit(0);
  } else if (parent < 0 || ::waitpid(parent, nullptr, 0) != parent) {
    ::_exit(2);
  }
  const pid_t child = ::fork();
  if (child == 0) {
    ::prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    while (true) ::pause();
  }
  char answer = 0;
  if (::write(orders[1], &child, sizeof child) != sizeof child || ::read(answers[0], &answer, 1) != 1) ::_exit(3);
  if (answer != 'y') {
    KillAllChildren(std::chrono::seconds(60));
    ::_exit(100);
  }
  const SteadyTime start = SystemClock().Now();
  const std::size_t reaped = KillAllChildren(std::chrono::milliseconds(200));
  const bool patient = SystemClock().Now() - start >= std::chrono::milliseconds(200);
  ::close(orders[1]);  // the tracer leaves, and with that the child's end is ours to see
  if (::waitpid(child, nullptr, 0) != child) ::_exit(4);
  ::_exit(reaped == 0 && patient ? 0 : 5);
}

TEST(KillAllChildrenDeathTest, DoesNotWaitForOneThatCannotDie) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const auto ended_well = [](int status) { return WIFEXITED(status) && WEXITSTATUS(status) % 100 == 0; };
  EXPECT_EXIT(TryToKillOneThatStays(), ended_well, "");
}

TEST(ReplaceProcessTest, AFailureSaysWhichProgramAndChangesNothing) {
  const UniqueFd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Error failed = ReplaceProcess("/no/such/program", {"program"}, {fd.get()});
  EXPECT_EQ(failed.code, Code::kNotFound);
  EXPECT_NE(failed.message.find("/no/such/program"), std::string::npos);
  EXPECT_EQ(::fcntl(fd.get(), F_GETFD), FD_CLOEXEC);
}

TEST(ReplaceProcessTest, OnlyWhatWasInheritedIsOwned) {
  EXPECT_CODE(OwnInherited(2), kInvalidArgument);
  EXPECT_CODE(OwnInherited(1 << 20), kInvalidArgument);
  const int number = ::open("/dev/null", O_RDONLY);
  const auto owned = OwnInherited(number);
  ASSERT_OK(owned);
  EXPECT_EQ(::fcntl(number, F_GETFD), FD_CLOEXEC);
}

}  // namespace
}  // namespace belay::base
