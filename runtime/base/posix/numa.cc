// Raw system calls: libnuma would be one more library to have, for three of them.
#include "runtime/base/numa.h"

#include <linux/mempolicy.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

namespace belay::base {

namespace {

constexpr std::size_t kSamples = 64;
constexpr std::size_t kPageBytes = 4096;
constexpr std::int32_t kNodesMax = 1024;  // CONFIG_NODES_SHIFT is 10 at most
constexpr std::size_t kWordBits = sizeof(unsigned long) * CHAR_BIT;

class KernelNuma final : public Numa {
 public:
  Status Prefer(std::span<std::byte> mapping, std::int32_t node) override {
    if (node < 0 || node >= kNodesMax) return Fail(Code::kInvalidArgument, "there is no NUMA node ", node);
    std::array<unsigned long, kNodesMax / kWordBits> mask{};
    mask[static_cast<std::size_t>(node) / kWordBits] = 1UL << (static_cast<std::size_t>(node) % kWordBits);
    // One bit more than the mask has: the kernel takes the highest one for not given.
    if (::syscall(SYS_mbind, mapping.data(), mapping.size(), MPOL_PREFERRED, mask.data(), kNodesMax + 1UL, 0U) == 0) {
      return {};
    }
    switch (errno) {
      case EINVAL:
        return Fail(Code::kInvalidArgument, "there is no NUMA node ", node, " with memory that belayd may use");
      case ENOSYS:
        return Fail(Code::kUnsupported, "the kernel knows no NUMA nodes");
      case EPERM:
      case EACCES:
        return Fail(Code::kPermissionDenied,
                    "memory may not be bound to a NUMA node here (mbind is refused: a container needs CAP_SYS_NICE)");
      default:
        return Fail(Code::kUnsupported, "cannot bind memory to NUMA node ", node, ": ", std::strerror(errno));
    }
  }

  std::vector<int> Cores(std::int32_t node) override {
    for (NumaNode& one : ReadNumaNodes(PosixFileSystem())) {
      if (one.id == node) return std::move(one.cores);
    }
    return {};
  }

  std::map<std::int32_t, int> Locate(std::span<const std::byte> mapping) override {
    const std::size_t pages = (mapping.size() + kPageBytes - 1) / kPageBytes;
    const std::size_t count = std::min(pages, kSamples);
    std::array<const void*, kSamples> addresses{};
    std::array<int, kSamples> found{};
    for (std::size_t i = 0; i < count; ++i) addresses[i] = &mapping[pages * i / count * kPageBytes];
    std::map<std::int32_t, int> nodes;
    // Without nodes to move to it only asks, and brings no page in.
    if (::syscall(SYS_move_pages, 0, count, addresses.data(), nullptr, found.data(), 0) != 0) return nodes;
    for (std::size_t i = 0; i < count; ++i) {
      if (found[i] >= 0) ++nodes[found[i]];  // else why it is not known: not touched
    }
    return nodes;
  }
};

}  // namespace

Numa& MachineNuma() {
  static KernelNuma numa;
  return numa;
}

}  // namespace belay::base
