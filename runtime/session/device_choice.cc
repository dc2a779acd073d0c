#include "runtime/session/device_choice.h"

#include <array>
#include <cstdio>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include "runtime/base/check.h"

namespace belay::runtime {
namespace {

constexpr std::string_view kNoGpu = "-";

}  // namespace

int DeviceIndex(int local_rank, int visible) {
  BELAY_CHECK(local_rank >= 0 && visible > 0, "local rank ", local_rank, " among ", visible, " GPUs");
  return local_rank % visible;
}

std::string DeviceName(std::span<const std::uint8_t> uuid) {
  BELAY_CHECK(uuid.size() == 16, "a UUID of ", uuid.size(), " bytes");
  std::string name = "GPU";
  for (std::size_t i = 0; i < uuid.size(); ++i) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) name += '-';
    std::array<char, 3> digits{};
    std::snprintf(digits.data(), digits.size(), "%02x", uuid[i]);
    name += digits.data();
  }
  return name;
}

base::Status CheckDevices(std::span<const HeldDevice> held) {
  std::optional<std::size_t> with, without;
  std::map<std::pair<int, std::string>, std::size_t> owners;
  for (std::size_t rank = 0; rank < held.size(); ++rank) {
    const HeldDevice& own = held[rank];
    if (own.gpu.empty()) {
      if (!without) without = rank;
      continue;
    }
    if (!with) with = rank;
    const auto [owner, fresh] = owners.try_emplace({own.node_rank, own.gpu}, rank);
    if (!fresh) {
      return base::Fail(base::Code::kInvalidArgument, "ranks ", owner->second, " and ", rank, " took the same GPU, ",
                        own.gpu, " of ", own.host, " (", own.visible, " of its GPUs visible to rank ", rank,
                        "): start one rank a GPU, show each rank one of its own (CUDA_VISIBLE_DEVICES), or set "
                        "BELAY_DEVICE=cpu");
    }
  }
  if (with && without) {
    return base::Fail(base::Code::kUnavailable, "rank ", *without, " on ", held[*without].host,
                      " has no usable GPU, but rank ", *with, " on ", held[*with].host,
                      " has: mend the driver or CUDA_VISIBLE_DEVICES there, or set BELAY_DEVICE=cpu for all");
  }
  return {};
}

std::string EncodeHeldDevice(const HeldDevice& held) {
  return base::Str(held.node_rank, " ", held.visible, " ", held.gpu.empty() ? kNoGpu : held.gpu, " ", held.host);
}

base::Result<HeldDevice> DecodeHeldDevice(std::string_view bytes) {
  HeldDevice held;
  std::istringstream words{std::string(bytes)};
  if (!(words >> held.node_rank >> held.visible >> held.gpu >> held.host)) {
    return base::Fail(base::Code::kProtocol, "\"", bytes, "\" does not say which device a rank took");
  }
  if (held.gpu == kNoGpu) held.gpu.clear();
  return held;
}

}  // namespace belay::runtime
