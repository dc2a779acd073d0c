// The mpirun command line of a run. Pure; golden tests and `belay explain` show what it answers.
//
// How Open MPI 4.1 behaves decides what stands here: no recovery flags (they swallow failures or never return), no core
// binding of its own, its files in folders that belay removes.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace belay::launcher {

struct MpirunRequest {
  std::int32_t ranks = 1;
  std::string shim;                                      // absolute path of belay-rank
  std::string scratch_directory;                         // for mpirun's session files
  std::string memory_directory;                          // for the ranks' shared memory segments
  std::vector<std::pair<std::string, std::string>> mca;  // the user's; they win over ours
};
std::vector<std::string> MpirunCommand(const MpirunRequest& request);

struct AttemptNames {
  std::string socket;  // belay's control socket
  std::string mark;    // what every process of the attempt carries
  std::string scratch_directory;
  std::string memory_directory;
};
// mpirun's environment: the caller's, without what an outer mpirun left in it, plus what belay-rank needs.
std::map<std::string, std::string> MpirunEnvironment(std::map<std::string, std::string> caller,
                                                     const AttemptNames& names, bool as_root);

// For people: words quoted where a shell needs it.
std::string ShellCommand(const std::vector<std::string>& words);

}  // namespace belay::launcher
