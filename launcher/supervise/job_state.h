// The states of a run and of its ranks, and which state may follow which.
//
// This is the launcher's main question ("what happens after X?") in one place: the table is the truth, supervisor.cc
// checks every change against it, and launcher/README.md prints it.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace belay::launcher {

enum class JobState : std::uint8_t {
  kRenewing,   // asking belayd for the next generation; nothing of the run is alive
  kStarting,   // mpirun was started; not every rank has registered, so no program runs yet
  kRunning,    // every rank was told to start its program
  kStopping,   // a stop was delivered: ranks finish their step, save and leave within the grace period
  kSettling,   // a rank failed: a moment for other ends to come in, so that the first failure is named, not the loudest
  kKilling,    // the ranks still alive were told to kill their programs
  kReleasing,  // every rank has ended: the shims may leave, and mpirun with them
  kCleaning,   // mpirun is gone or being killed; whatever still carries the attempt's mark is killed
  kDone,       // the verdict is final
};

enum class RankState : std::uint8_t {
  kAbsent,      // mpirun has not started its shim yet, or the shim has not called
  kRegistered,  // its shim waits for the word to start the program
  kAlive,       // the program was started
  kEnded,       // the program has ended and the shim said how
  kLost,        // the shim went away without a word
};

struct Transition {
  JobState from;
  JobState to;
  std::string_view when;
};

std::span<const Transition> JobTransitions();
bool MayFollow(JobState from, JobState to);
std::string_view Name(JobState state);
std::string_view Name(RankState state);

}  // namespace belay::launcher
