// How much staging memory belayd may hold by default: half of what it may use at all.
//
// That is the machine's memory or, inside a batch job or a pod, the least limit of its control group and the groups
// above: more would not be refused with numbers, it would be the end of the daemon. Source: the kernel's
// Documentation/admin-guide/cgroup-v2.rst (memory.max) and cgroup-v1/memory.rst (memory.limit_in_bytes).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/file_system.h"

namespace belay::checkpoint {

// The files that may limit this process, given /proc/self/cgroup: of its own group first, then of those above.
std::vector<std::string> MemoryLimitFiles(const std::string& proc_self_cgroup);
// The least limit in these files; no value if none has one. Files that are not there count as no limit.
std::optional<std::uint64_t> LeastMemoryLimit(base::FileSystem& files, const std::vector<std::string>& limit_files);

std::uint64_t DefaultMemoryBudget(base::FileSystem& files);

}  // namespace belay::checkpoint
