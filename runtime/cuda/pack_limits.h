// Limits of one packed transfer. Apart, and C++17, because device code is compiled to that standard.
#pragma once

#include <cstddef>
#include <cstdint>

namespace belay::runtime {

inline constexpr std::size_t kPackItemsMax = 128;  // the kernel's table fits 4 KiB of launch parameters
inline constexpr std::uint64_t kPackBytesMax = 4ULL * 1024 * 1024;

}  // namespace belay::runtime
