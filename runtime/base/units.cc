#include "runtime/base/units.h"

#include <array>
#include <cstdio>

#include "runtime/base/str.h"

namespace belay::base {

std::string HumanBytes(std::uint64_t bytes) {
  if (bytes < kKiB) return Str(bytes, " B");
  constexpr std::array kNames = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024.0;
  std::size_t index = 0;
  // 1023.95 would print as 1024.0: go on to the next name instead.
  while (value >= 1023.95 && index + 1 < kNames.size()) {
    value /= 1024.0;
    ++index;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %s", value, kNames[index]);
  return text;
}

}  // namespace belay::base
