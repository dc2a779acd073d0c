#include "runtime/session/stop_signals.h"

#include <signal.h>

#include <array>

namespace belay::runtime {
namespace {

volatile sig_atomic_t seen = 0;
bool caught = false;
constexpr std::array<int, 3> kSignals = {SIGTERM, SIGUSR1, SIGUSR2};
std::array<struct sigaction, kSignals.size()> before;

void Note(int /*signal*/) { seen = 1; }

}  // namespace

void CatchStopSignals() {
  if (caught) return;
  struct sigaction action = {};
  action.sa_handler = Note;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &action, &before[i]);
  caught = true;
}

void ReleaseStopSignals() {
  if (!caught) return;
  for (std::size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &before[i], nullptr);
  caught = false;
}

bool StopSignalSeen() { return seen != 0; }

}  // namespace belay::runtime
