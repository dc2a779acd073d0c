#include "runtime/base/sim/scripted_processes.h"

#include <signal.h>

#include "runtime/base/sim/sim_clock.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

using std::chrono::hours;
using std::chrono::seconds;

class ScriptedProcessesTest : public testing::Test {
 protected:
  pid_t Run(ProcessScript script) {
    processes_.Script(std::move(script));
    SpawnRequest request;
    request.argv = {"trainer", "--fast"};
    request.environment = {{"RANK", "0"}};
    return *processes_.Spawn(std::move(request));
  }
  SimClock clock_;
  ScriptedProcesses processes_{clock_};
  SteadyTime start_ = clock_.Now();
};

TEST_F(ScriptedProcessesTest, ExitsWhenItsTimeHasCome) {
  const pid_t pid = Run({.exits_after = hours(3), .status = 5});
  EXPECT_EQ(*processes_.Wait(pid, hours(1)), std::nullopt);
  EXPECT_EQ((**processes_.Wait(pid, std::nullopt)).status, 5);
  EXPECT_EQ(clock_.Now() - start_, hours(3));
}

TEST_F(ScriptedProcessesTest, CrashesWithItsSignal) {
  const pid_t pid = Run({.exits_after = seconds(1), .signal = SIGSEGV});
  EXPECT_EQ((**processes_.Wait(pid, std::nullopt)).status, 128 + SIGSEGV);
}

TEST_F(ScriptedProcessesTest, IgnoresWhatItIgnoresButNotSigkill) {
  const pid_t pid = Run({.ignored_signals = {SIGTERM, SIGKILL}});
  EXPECT_OK(processes_.SignalGroup(pid, SIGTERM));
  EXPECT_EQ(*processes_.Wait(pid, hours(1)), std::nullopt);
  EXPECT_OK(processes_.SignalGroup(pid, SIGKILL));
  EXPECT_EQ((**processes_.Wait(pid, std::nullopt)).signal, SIGKILL);
}

TEST_F(ScriptedProcessesTest, ObeysSlowly) {
  const pid_t pid = Run({.obeys_signal_after = seconds(20)});
  EXPECT_OK(processes_.SignalGroup(pid, SIGTERM));
  EXPECT_EQ(*processes_.Wait(pid, seconds(19)), std::nullopt);
  EXPECT_EQ((**processes_.Wait(pid, seconds(2))).signal, SIGTERM);
}

TEST_F(ScriptedProcessesTest, RemembersWhatWasAskedOfIt) {
  const pid_t pid = Run({.exits_after = seconds(1)});
  EXPECT_OK(processes_.SignalGroup(pid, SIGCONT));
  ASSERT_EQ(processes_.spawned().size(), 1U);
  EXPECT_THAT(processes_.spawned()[0].argv, testing::ElementsAre("trainer", "--fast"));
  EXPECT_EQ(processes_.spawned()[0].environment.at("RANK"), "0");
  ASSERT_EQ(processes_.signalled().size(), 1U);
  EXPECT_EQ(processes_.signalled()[0].signal, SIGCONT);
  EXPECT_EQ((**processes_.Wait(pid, std::nullopt)).status, 0) << "SIGCONT kills nobody";
}

}  // namespace
}  // namespace belay::base
