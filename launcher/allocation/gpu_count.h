// How many GPUs Slurm says there are. Pure.
#pragma once

#include <cstdint>
#include <string_view>

#include "runtime/base/result.h"

namespace belay::launcher {

constexpr std::int32_t kGpusMax = 1'000'000;  // of a node; larger sums are cut to it

// Amounts: "8", "b200:8", "gpu:b200:4,gpu:h100:4", "gres/gpu:8(S:0-1)". A type without a number is one of it.
base::Result<std::int32_t> CountGpus(std::string_view where, std::string_view text);

// Lists of device indices: "0,1,2-7". "1" is one GPU, that of index 1.
base::Result<std::int32_t> CountGpuIndices(std::string_view where, std::string_view text);

}  // namespace belay::launcher
