// What `belay explain` says of the hosts that a batch system or a person grants. Pure.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "launcher/allocation/allocation.h"
#include "runtime/base/result.h"

namespace belay::launcher {

// Lines of a label and a text each. An allocation that cannot be made out is said, and is no failure: `belay run` uses
// this host only and does not ask it.
std::vector<std::pair<std::string, std::string>> AllocationLines(const base::Result<Allocation>& allocation,
                                                                 const std::string& host_name);

// Adds the fields `allocation` and `allocation_error`; docs/json-output.md lists theirs.
void AddAllocation(const base::Result<Allocation>& allocation, nlohmann::json& document);

}  // namespace belay::launcher
