// Every environment variable belay reads or sets, once. `belay help environment` and docs/environment.md print it; a
// test compares the two.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace belay::launcher {

struct EnvironmentVariable {
  std::string_view name;
  // "user": read by belay; "rank": set for the program; "batch": set by a batch system; "test": for tests
  std::string_view side;
  std::string_view meaning;
};
std::span<const EnvironmentVariable> EnvironmentTable();
std::string RenderEnvironmentTable();

}  // namespace belay::launcher
