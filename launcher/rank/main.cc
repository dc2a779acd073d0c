// belay-rank: see shim.h. Started by mpirun, never by people.
#include <csignal>
#include <cstdio>

#include "launcher/rank/shim.h"
#include "runtime/base/environment.h"
#include "runtime/base/host.h"
#include "runtime/base/signals.h"

int main() {
  using namespace belay;
  base::IgnoreSigpipe();
  // mpirun passes signals on and warns with SIGTERM before it kills; what happens to the program is the launcher's
  // decision, so they are held back and never looked at.
  const auto held = base::SignalWatcher::Create({SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGTSTP});
  const launcher::ShimSetup setup{.transport = base::UnixTransport(),
                                  .spawner = base::PosixProcessSpawner(),
                                  .files = base::PosixFileSystem(),
                                  .clock = base::SystemClock(),
                                  .environment = base::WholeEnvironment(),
                                  .host = base::HostName(),
                                  .pid = base::ProcessId(),
                                  .cores = base::CoreCount()};
  base::Status status = held ? base::Status() : base::Status(tl::unexpected(held.error()));
  if (status) status = launcher::RunShim(setup);
  if (status) return 0;
  std::fprintf(stderr, "belay-rank: %s\n", status.error().Text().c_str());
  return static_cast<int>(base::Describe(status.error().code).exit_status);
}
