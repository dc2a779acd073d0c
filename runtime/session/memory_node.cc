#include "runtime/session/memory_node.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

namespace belay::runtime {

std::optional<std::int32_t> NearestNode(const Placement& placement) {
  if (placement.nodes.size() < 2) return std::nullopt;
  if (placement.on_gpu) {
    const bool exists = std::any_of(placement.nodes.begin(), placement.nodes.end(),
                                    [&](const base::NumaNode& node) { return node.id == placement.gpu_node; });
    return exists ? placement.gpu_node : std::nullopt;
  }
  if (placement.cores.empty()) return std::nullopt;
  for (const base::NumaNode& node : placement.nodes) {
    const bool has_all = std::all_of(placement.cores.begin(), placement.cores.end(), [&](int core) {
      return std::find(node.cores.begin(), node.cores.end(), core) != node.cores.end();
    });
    if (has_all) return node.id;
  }
  return std::nullopt;
}

std::string PciBusId(int domain, int bus, int device) {
  std::array<char, 40> text{};
  // A GPU is function 0 of its device.
  std::snprintf(text.data(), text.size(), "%04x:%02x:%02x.0", static_cast<unsigned>(domain), static_cast<unsigned>(bus),
                static_cast<unsigned>(device));
  return text.data();
}

Placement ReadPlacement(base::FileSystem& files, const std::optional<std::string>& gpu, std::vector<int> cores,
                        const std::string& sys) {
  Placement placement{base::ReadNumaNodes(files, sys), std::move(cores), gpu.has_value(), std::nullopt};
  if (gpu) placement.gpu_node = base::PciDeviceNode(files, *gpu, sys);
  return placement;
}

}  // namespace belay::runtime
