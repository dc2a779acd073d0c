// Slurm's compressed notations. Pure.
//
//   host list   node[001-003,007],login1,rack[0-1]n[1-2].example   ranges keep the zeros that their first number has;
//   of
//               several brackets the last runs fastest (hostlist in the manual pages of scontrol and slurm.conf)
//   counts      2(x3),1 is 2,2,2,1: SLURM_TASKS_PER_NODE and its like, in the order of the nodes
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace belay::launcher {

// The names in order, repeated ones too; at most kNodesMax, else kInvalidArgument. `where` begins every complaint.
base::Result<std::vector<std::string>> ExpandHostlist(std::string_view where, std::string_view text);

// The inverse: ExpandHostlist of it gives `names` again, in their order. Names must pass IsHostName.
std::string CompressHostlist(std::span<const std::string> names);

// At most kNodesMax numbers, each in [least, most].
base::Result<std::vector<std::int32_t>> ExpandCounts(std::string_view where, std::string_view text, std::int32_t least,
                                                     std::int32_t most);

}  // namespace belay::launcher
