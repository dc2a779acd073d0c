// Which GPU a rank takes, and whether the ranks' choices go together. Pure.
//
// A node may show all its GPUs to every rank: then local rank i takes the i-th. Or each rank is shown only its own
// (CUDA_VISIBLE_DEVICES per rank, as some schedulers do): then that one is number 0 everywhere. Numbers do not tell the
// two apart, so ranks exchange the UUIDs of what they took, and all refuse alike what NCCL would hang or fail on.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace belay::runtime {

// What one rank took.
struct HeldDevice {
  int node_rank = 0;
  std::string host;  // for messages
  int visible = 0;   // GPUs that the rank is shown
  std::string gpu;   // the UUID of the one that it took; empty: it trains on the CPU
};

// The number of the GPU that this rank takes among the `visible` ones, of which there is at least one.
int DeviceIndex(int local_rank, int visible);

// "GPU-12345678-9abc-..." as nvidia-smi -L prints it. 16 bytes.
std::string DeviceName(std::span<const std::uint8_t> uuid);

// By rank. kInvalidArgument: two ranks of a node took the same GPU. kUnavailable: some ranks have one and others none.
base::Status CheckDevices(std::span<const HeldDevice> held);

// For the exchange. kProtocol on what EncodeHeldDevice did not make.
std::string EncodeHeldDevice(const HeldDevice& held);
base::Result<HeldDevice> DecodeHeldDevice(std::string_view bytes);

}  // namespace belay::runtime
