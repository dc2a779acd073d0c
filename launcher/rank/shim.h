// belay-rank: looks after one training program for the launcher.
//
// mpirun starts one per rank. It calls the launcher, starts the program when told, captures its output line by line
// (log file first, launcher second), reads its control page, and reports how it ended. It never decides anything: when
// the launcher says kill, or goes away, the program and everything it started die with SIGKILL.
//
// Threads: the caller's is the loop; one reads the launcher, one waits for the program, one per output stream, one
// sends.
#pragma once

#include <map>
#include <string>

#include "launcher/rank/rank_environment.h"
#include "runtime/base/clock.h"
#include "runtime/base/file_system.h"
#include "runtime/base/process_spawner.h"
#include "runtime/base/transport.h"

namespace belay::launcher {

struct ShimSetup {
  base::Transport& transport;
  base::ProcessSpawner& spawner;
  base::FileSystem& files;
  base::Clock& clock;
  std::map<std::string, std::string> environment;  // what mpirun passed on
  std::string host;
  std::int32_t pid = 0;
  int cores = 1;
};

// Returns when the launcher releases the rank or is gone and nothing of the program is alive: the process may exit.
// Errors are those before the launcher was reached.
base::Status RunShim(const ShimSetup& setup);

}  // namespace belay::launcher
