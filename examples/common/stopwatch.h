// Time that a step spends on something, added up: the wait for input that `belay run` shows.
#pragma once

#include <chrono>
#include <utility>

namespace examples {

// Does `work` and adds the seconds that it took to `seconds`.
template <typename Work>
auto Timed(double& seconds, Work&& work) {
  const auto start = std::chrono::steady_clock::now();
  auto result = std::forward<Work>(work)();
  seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace examples
