// Where the kernel keeps the memory figures of this process's control group.
// Source: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace belay::base {

// Given /proc/self/cgroup, the paths of one memory file: of the own group first, then of those above. It is called
// `unified` in version 2 and `first_version` in version 1. Pure.
std::vector<std::string> MemoryGroupFiles(const std::string& proc_self_cgroup, std::string_view unified,
                                          std::string_view first_version);

}  // namespace belay::base
