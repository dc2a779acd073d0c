// Near which NUMA node a rank works: there its staging memory is to lie. Copies out of a GPU to the memory of another
// socket are slower, and share the link between the sockets with everything else.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/file_system.h"
#include "runtime/base/numa.h"

namespace belay::runtime {

struct Placement {
  std::vector<base::NumaNode> nodes;     // of the machine
  std::vector<int> cores;                // that this process may run on
  bool on_gpu = false;                   // the rank trains on one
  std::optional<std::int32_t> gpu_node;  // that it hangs on, as far as the machine says
};

// The GPU's node; for a rank on the CPU the one that all its cores belong to. None if there is none such, or no choice
// between nodes. Pure.
std::optional<std::int32_t> NearestNode(const Placement& placement);

// "0000:1b:00.0", as sysfs names a device, from what CUDA says of it. Pure.
std::string PciBusId(int domain, int bus, int device);

// `gpu`: the PCI bus id of the rank's GPU; none: it trains on the CPU.
Placement ReadPlacement(base::FileSystem& files, const std::optional<std::string>& gpu, std::vector<int> cores,
                        const std::string& sys = "/sys");

}  // namespace belay::runtime
