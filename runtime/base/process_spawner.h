// Seam: child processes.
//
// Each child leads its own process group and, unless told otherwise, is killed when the thread that spawned it ends (so
// spawn from a thread that lives as long as the child should). Exits arrive through Wait. Thread-safe.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/clock.h"
#include "runtime/base/result.h"
#include "runtime/base/unique_fd.h"

namespace belay::base {

struct SpawnRequest {
  std::vector<std::string> argv;                   // argv[0] is looked up in PATH if it has no slash
  std::map<std::string, std::string> environment;  // the child's whole environment
  std::string working_directory;                   // empty: the caller's
  UniqueFd input, output, error;                   // not valid: /dev/null, the caller's stdout, the caller's stderr
  std::vector<int> inherited;                      // descriptors that stay open in the child under the same number
  bool dies_with_parent = true;                    // SIGKILL when the spawning thread ends (prctl(2), PR_SET_PDEATHSIG)
  bool new_session = false;                        // setsid: detached from the terminal, for daemons
  std::vector<int> blocked_signals;                // stay blocked in the child; every other one is not
};

struct ExitEvent {
  pid_t pid = 0;
  int status = 0;  // exit status, or 128 + signal
  int signal = 0;  // the signal that ended it, or 0
};

class ProcessSpawner {
 public:
  virtual ~ProcessSpawner() = default;
  // The pid once exec succeeded. kNotFound, kPermissionDenied: exec failed, with the program in the message.
  virtual Result<pid_t> Spawn(SpawnRequest request) = 0;
  // To the whole process group; a group that is gone is fine.
  virtual Status SignalGroup(pid_t pid, int signal) = 0;
  // The exit of this child, reaped; no value if the deadline passes first.
  virtual Result<std::optional<ExitEvent>> Wait(pid_t pid, std::optional<Duration> deadline) = 0;
};

// The machine's processes; lives as long as the process.
//
// A child starts with every signal at its default and unblocked (but for blocked_signals), and with no descriptor but
// 0, 1, 2 and the inherited ones.
ProcessSpawner& PosixProcessSpawner();

// Puts another program in this process's place: the same pid, environment and working folder, blocked signals stay
// blocked, and of the descriptors only 0, 1, 2 and the inherited ones stay open. Returns only if that fails; nothing
// has changed then.
Error ReplaceProcess(const std::string& program, std::vector<std::string> argv, const std::vector<int>& inherited);
// An inherited descriptor whose number somebody named, owned from now on. kInvalidArgument: 0, 1, 2 or not open. Each
// number once.
Result<UniqueFd> OwnInherited(int number);
// All but 0, 1 and 2. For the beginning of a program that does not want what it has inherited.
void CloseInherited();

// Grandchildren whose parent ends become children of this process instead of init's (prctl(2), PR_SET_CHILD_SUBREAPER).
Status AdoptOrphans();
// Kills (SIGKILL) and reaps every child of this process, adopted ones too; returns how many. After `patience` it leaves
// those that do not die (one waits in the kernel for a file server that is gone, say) and returns. At the end of a
// supervisor's life only: it takes exits away from Wait.
std::size_t KillAllChildren(Duration patience);

}  // namespace belay::base
