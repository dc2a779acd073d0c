// NUMA: which nodes this machine has, which one a device hangs on, and where memory is to lie.
//
// Nodes are the kernel's numbers. All of it is advice: where the kernel knows no NUMA, or a container may not ask,
// there is an error to note, and memory lies where it comes to lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/file_system.h"
#include "runtime/base/result.h"

namespace belay::base {

struct NumaNode {
  std::int32_t id = 0;
  std::vector<int> cores;  // none: it has only memory
};

// "0-3,8" as the kernel writes sets of cores and nodes, in its order; no value if it is something else. Pure.
std::optional<std::vector<int>> ParseNumberList(std::string_view text);

// The nodes that are online; none where the kernel does not say. `sys`: where sysfs is mounted.
// Source: the kernel's Documentation/ABI/stable/sysfs-devices-node.
std::vector<NumaNode> ReadNumaNodes(FileSystem& files, const std::string& sys = "/sys");

// The node of a PCI device, given as "0000:1b:00.0"; no value if the firmware does not say (as in most virtual
// machines) or there is no such device. Source: the kernel's Documentation/ABI/testing/sysfs-bus-pci.
std::optional<std::int32_t> PciDeviceNode(FileSystem& files, const std::string& bus_id,
                                          const std::string& sys = "/sys");

// Seam: what belayd asks of the machine about staging memory. Thread-safe.
class Numa {
 public:
  virtual ~Numa() = default;
  // Pages of a shared mapping that are touched for the first time from now on, by whatever process, come from `node`
  // while it has free ones, then from others. Pages that are there already stay where they are.
  // kInvalidArgument: no such node, or none for this process. kPermissionDenied, kUnsupported: not on this machine.
  virtual Status Prefer(std::span<std::byte> mapping, std::int32_t node) = 0;
  // Cores of the node; none if there is no such node, or it has none.
  virtual std::vector<int> Cores(std::int32_t node) = 0;
  // Where some pages lie, spread evenly over the mapping: how many on which node. Those that this process has not
  // touched do not count. Empty where the kernel does not say.
  virtual std::map<std::int32_t, int> Locate(std::span<const std::byte> mapping) = 0;
};
Numa& MachineNuma();

}  // namespace belay::base
