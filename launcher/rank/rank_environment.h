// The environment of a training program. Pure; `belay explain` prints what this answers.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "runtime/base/result.h"

namespace belay::launcher {

struct RankPlacement {
  std::int32_t rank = 0;
  std::int32_t local_rank = 0;
  std::int32_t world_size = 1;
  std::int32_t local_world_size = 1;
  std::int32_t node_rank = 0;
};

// What mpirun 4.1 tells a process about its place. kLaunchFailed without it: belay-rank is not for people to start.
base::Result<RankPlacement> PlacementFromMpirun(const std::map<std::string, std::string>& environment);

// `inherited` with the job's own variables on top, torchrun's names, and a thread count. Variables that belong to
// belay-rank alone are taken out. `cores`: that the ranks of this host share.
std::map<std::string, std::string> MakeRankEnvironment(std::map<std::string, std::string> inherited,
                                                       const std::map<std::string, std::string>& job,
                                                       const RankPlacement& placement, int cores);

// Names between belay and belay-rank.
inline constexpr char kLauncherSocketVariable[] = "BELAY_LAUNCHER_SOCKET";
inline constexpr char kAttemptVariable[] = "BELAY_ATTEMPT";  // the mark every process of an attempt carries
inline constexpr char kScratchVariable[] = "BELAY_SCRATCH";  // folders, separated by ':', that go with the attempt

}  // namespace belay::launcher
