// Gathers small pieces of device memory into one buffer, so that a thousand small tensors cost one transfer.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "runtime/cuda/pack_limits.h"

namespace belay::runtime {

// The kernel's argument: fits the 4 KiB of launch parameters, so no table has to be uploaded.
struct PackTable {
  const std::byte* source[kPackItemsMax];
  std::uint32_t offset[kPackItemsMax];
  std::uint32_t bytes[kPackItemsMax];
  std::uint32_t count = 0;
};
static_assert(sizeof(PackTable) <= 4096);

// scratch[offset[i] ...] = source[i][0 ... bytes[i]), for all i < count. Asynchronous on `stream`.
cudaError_t LaunchPack(const PackTable& table, std::byte* scratch, cudaStream_t stream);

}  // namespace belay::runtime
