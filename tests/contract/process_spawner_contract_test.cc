// What every ProcessSpawner promises (runtime/base/process_spawner.h): real shells, and processes on paper.
#include <signal.h>

#include "runtime/base/environment.h"
#include "runtime/base/sim/scripted_processes.h"
#include "runtime/base/sim/sim_clock.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

SpawnRequest Shell(const std::string& script) {
  SpawnRequest request;
  request.argv = {"/bin/sh", "-c", script};
  request.environment = {{"PATH", "/usr/bin:/bin"}};
  return request;
}

struct Real {
  ProcessSpawner& spawner() { return PosixProcessSpawner(); }
  Result<pid_t> Exits(int status) { return spawner().Spawn(Shell(Str("exit ", status))); }
  Result<pid_t> Hangs() { return spawner().Spawn(Shell("exec sleep 1000")); }
  Result<pid_t> NotThere() {
    SpawnRequest request;
    request.argv = {"/no/such/program"};
    return spawner().Spawn(std::move(request));
  }
};

struct OnPaper {
  SimClock clock;
  ScriptedProcesses processes{clock};
  ProcessSpawner& spawner() { return processes; }
  Result<pid_t> Run(ProcessScript script) {
    processes.Script(std::move(script));
    return processes.Spawn(Shell("whatever"));
  }
  Result<pid_t> Exits(int status) { return Run({.exits_after = seconds(1), .status = status}); }
  Result<pid_t> Hangs() { return Run({}); }
  Result<pid_t> NotThere() { return Run({.spawn_error = Code::kNotFound}); }
};

template <typename T>
class ProcessSpawnerContract : public testing::Test {
 protected:
  T place_;
};
using Places = testing::Types<Real, OnPaper>;
TYPED_TEST_SUITE(ProcessSpawnerContract, Places);

TYPED_TEST(ProcessSpawnerContract, TellsTheExitStatusOnce) {
  const auto pid = this->place_.Exits(7);
  ASSERT_OK(pid);
  const auto exit = this->place_.spawner().Wait(*pid, seconds(60));
  ASSERT_OK(exit);
  ASSERT_TRUE(exit->has_value());
  EXPECT_EQ((*exit)->pid, *pid);
  EXPECT_EQ((*exit)->status, 7);
  EXPECT_EQ((*exit)->signal, 0);
  EXPECT_CODE(this->place_.spawner().Wait(*pid, seconds(1)), kNotFound);
}

TYPED_TEST(ProcessSpawnerContract, TellsTheSignal) {
  const auto pid = this->place_.Hangs();
  ASSERT_OK(pid);
  EXPECT_EQ(*this->place_.spawner().Wait(*pid, milliseconds(1)), std::nullopt) << "it hangs";
  EXPECT_EQ(*this->place_.spawner().Wait(*pid, Duration::zero()), std::nullopt);
  EXPECT_OK(this->place_.spawner().SignalGroup(*pid, SIGKILL));
  const auto exit = this->place_.spawner().Wait(*pid, std::nullopt);
  ASSERT_OK(exit);
  EXPECT_EQ((*exit)->status, 128 + SIGKILL);
  EXPECT_EQ((*exit)->signal, SIGKILL);
}

TYPED_TEST(ProcessSpawnerContract, TellsWhyExecFailed) {
  EXPECT_CODE(this->place_.NotThere(), kNotFound);
  EXPECT_CODE(this->place_.spawner().Spawn(SpawnRequest()), kInvalidArgument);
}

TYPED_TEST(ProcessSpawnerContract, SignalsToThoseWhoAreGoneAreFine) {
  const auto pid = this->place_.Exits(0);
  ASSERT_OK(pid);
  EXPECT_TRUE((*this->place_.spawner().Wait(*pid, hours(1))).has_value());
  EXPECT_OK(this->place_.spawner().SignalGroup(*pid, SIGTERM));
}

// 0 would be our own group and -1 everybody.
TYPED_TEST(ProcessSpawnerContract, RefusesToSignalTheWorld) {
  for (const pid_t pid : {-1, 0, 1}) EXPECT_CODE(this->place_.spawner().SignalGroup(pid, 0), kInvalidArgument);
}

}  // namespace
}  // namespace belay::base
