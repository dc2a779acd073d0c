#include "runtime/cuda/pack.h"

namespace belay::runtime {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kBlocksPerItem = 4;

// A row of blocks per item. Sixteen bytes at a time where both sides are aligned (torch's tensors are, their places in
// the file often too), single bytes at the ends and otherwise.
__global__ void PackKernel(const PackTable table, std::byte* scratch) {
  const unsigned item = blockIdx.y;
  const std::byte* from = table.source[item];
  std::byte* to = scratch + table.offset[item];
  const std::uint32_t bytes = table.bytes[item];
  const std::uint32_t thread = blockIdx.x * blockDim.x + threadIdx.x;
  const std::uint32_t stride = gridDim.x * blockDim.x;
  std::uint32_t done = 0;
  if (((reinterpret_cast<std::uintptr_t>(from) | reinterpret_cast<std::uintptr_t>(to)) & 15U) == 0) {
    const std::uint32_t words = bytes / 16;
    for (std::uint32_t i = thread; i < words; i += stride) {
      reinterpret_cast<uint4*>(to)[i] = reinterpret_cast<const uint4*>(from)[i];
    }
    done = words * 16;
  }
  for (std::uint32_t i = done + thread; i < bytes; i += stride) to[i] = from[i];
}

}  // namespace

cudaError_t LaunchPack(const PackTable& table, std::byte* scratch, cudaStream_t stream) {
  PackKernel<<<dim3(kBlocksPerItem, table.count), kThreads, 0, stream>>>(table, scratch);
  return cudaGetLastError();
}

}  // namespace belay::runtime
