// The exit statuses of belay's programs, after sysexits(3) where it has a word for the case.
//
// Schedulers and scripts act on these, so they never change meaning. A run whose rank failed exits with that rank's own
// status (128 + signal number if a signal ended it), which can meet the numbers here: the JSON verdict names both.
#pragma once

#include <string_view>

namespace belay::base {

// X(number, name, meaning)
#define BELAY_EXIT_STATUSES(X)                                                         \
  X(0, Done, "finished")                                                               \
  X(1, RankFailed, "a rank failed and left no status of its own")                      \
  X(64, Usage, "the command line, environment or configuration is wrong")              \
  X(65, BadData, "a checkpoint is damaged or does not fit")                            \
  X(66, NoInput, "the named file, job or checkpoint does not exist")                   \
  X(69, Unavailable, "belayd, mpirun or a device cannot be used")                      \
  X(70, Internal, "a bug in belay")                                                    \
  X(71, OsError, "the operating system refused memory, processes or files")            \
  X(72, GraceExpired, "stopped, but not saved within the grace period")                \
  X(73, CannotCreate, "a file cannot be created: disk full, read-only or existing")    \
  X(74, Io, "reading or writing failed")                                               \
  X(75, TemporaryFailure, "preempted with a committed checkpoint, or busy: run again") \
  X(76, Protocol, "a peer sent what is not belay's protocol")                          \
  X(77, NoPermission, "not allowed")                                                   \
  X(79, Software, "the training program misused belay")

enum class ExitStatus : int {
#define BELAY_X(number, name, meaning) k##name = number,
  BELAY_EXIT_STATUSES(BELAY_X)
#undef BELAY_X
};

// The status that asks a scheduler to run the job again: everything is saved.
inline constexpr ExitStatus kExitPreempted = ExitStatus::kTemporaryFailure;

// One line for a status; for 129..192 "killed by signal N"; otherwise "exit status of the program".
std::string_view ExitStatusMeaning(int status);

}  // namespace belay::base
