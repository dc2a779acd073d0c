// Sizes in bytes, spelled as people say them.
#pragma once

#include <cstdint>
#include <string>

namespace belay::base {

inline constexpr std::uint64_t kKiB = 1024;
inline constexpr std::uint64_t kMiB = 1024 * kKiB;
inline constexpr std::uint64_t kGiB = 1024 * kMiB;

// The next multiple of `alignment` (a power of two) at or above `value`.
constexpr std::uint64_t AlignUp(std::uint64_t value, std::uint64_t alignment) {
  return (value + alignment - 1) & ~(alignment - 1);
}

// "812 B", "4.0 MiB", "1.3 GiB".
std::string HumanBytes(std::uint64_t bytes);

}  // namespace belay::base
