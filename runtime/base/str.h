// Str(a, b, c): one string of everything that can be streamed. For messages, not for hot paths.
#pragma once

#include <sstream>
#include <string>

namespace belay::base {

template <typename... Args>
std::string Str(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return std::move(out).str();
}

}  // namespace belay::base
