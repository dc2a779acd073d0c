// Hosts as people write them: mpirun's -H list and hostfile. The one parser of both, for every command. Pure.
//
//   list       a:4,b,a:2          a host without a count has one slot; repeated ones add up
//   hostfile   a slots=4 max_slots=8    # a comment
//              b                        a line a host; repeated ones add up
//              b:8                      where `colon_counts`: as MPICH and Intel MPI write it
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/allocation/allocation.h"
#include "runtime/base/result.h"

namespace belay::launcher {

struct HostEntry {
  std::string name;
  std::int32_t slots = 1;
  std::size_t line = 0;  // of a hostfile, from 1
};

struct HostRules {
  std::string where;  // "--host", "the hostfile", "PBS_NODEFILE /f": begins every complaint
  std::int32_t slots_default = 1;
  std::int32_t slots_max = kSlotsMax;
  bool colon_counts = false;
};

// The entries as written, before equal names are added up. kInvalidArgument.
base::Result<std::vector<HostEntry>> ParseHostList(std::string_view list, const HostRules& rules);
base::Result<std::vector<HostEntry>> ParseHostfile(std::string_view text, const HostRules& rules);

// A host a line and a slot each, as PBS and LSF write it; blank lines and comments are passed over.
base::Result<std::vector<Node>> NodesFromLines(std::string_view where, std::string_view text);

// Adds up equal names, in the order of their first mention.
base::Result<std::vector<Node>> NodesOf(const std::vector<HostEntry>& entries, std::string_view where);

}  // namespace belay::launcher
