// `belay run` after its options are parsed: carries out what the supervisor decides.
//
// The caller's thread is the loop. It spawns mpirun itself, so that mpirun dies with it, and owns the supervisor's
// state. Helper threads wait for signals, mpirun, belayd and shims, and post events.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "launcher/run/run_options.h"
#include "runtime/base/result.h"
#include "runtime/base/signals.h"

namespace belay::launcher {

// The signals that mean something to a run. Block them (SignalWatcher::Create) before the first thread.
base::Result<base::SignalWatcher> WatchRunSignals();

// The exit status of the run. Errors are those before there was one (folders, sockets).
base::Result<int> RunJob(const RunOptions& options, base::SignalWatcher& signals);

// What the ranks get on top of their own variables; `belay explain` shows it. MASTER_PORT is drawn for each attempt.
struct JobVariables {
  std::string socket, data_dir, run_directory;
  std::uint64_t generation = 0;
  std::int32_t restarts = 0;
  std::string master_address = "127.0.0.1";
  std::uint16_t master_port = 0;
};
std::map<std::string, std::string> JobEnvironment(const RunOptions& options, const JobVariables& variables,
                                                  const std::map<std::string, std::string>& caller);

}  // namespace belay::launcher
