// Named places where a test can make belay fail: "commit.after_manifest_sync".
//
// Every fault point stands in one list (fault_points.cc), so that it can be listed, counted and asked for by name. A
// point costs one relaxed atomic load while none is armed. Armed by BELAY_FAULTS="name=action[,name=action]" in the
// environment of a test (read once), or by ArmFault. Actions: "kill" (SIGKILL to this process), "stop" (SIGSTOP), "io"
// (kIo), "nospace" (kNoSpace), "unavailable" (kUnavailable); "name=kill@3" fires at the third passage only.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace belay::base {

// Passes through the point: success unless armed to fail here. A name that is not in the list is a CHECK.
Status FaultPoint(std::string_view name);

// Arms as in BELAY_FAULTS; kInvalidArgument on a bad plan or unknown name.
Status ArmFaults(std::string_view plan);
void DisarmFaults();
// In place of a plan: asks at every passage. For a simulation, which decides from its seed.
void DecideFaults(std::function<Status(std::string_view name)> decide);

struct FaultPointInfo {
  std::string_view name;
  std::string_view meaning;
  std::uint64_t passed = 0;
  std::uint64_t fired = 0;
};
std::vector<FaultPointInfo> ListFaultPoints();

}  // namespace belay::base
