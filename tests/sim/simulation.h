// One seed: a while of work and faults, then calm, in which everything must be well again.
#pragma once

#include <cstdint>
#include <string>

#include "tests/sim/world.h"

namespace belay::checkpoint::sim {

struct Simulated {
  std::string violation;     // in words; empty if nothing was violated
  std::uint64_t digest = 0;  // of the world's course: a seed has one
};
Simulated Simulate(std::uint64_t seed, Plants plants, Coverage& coverage, bool tracing);

}  // namespace belay::checkpoint::sim
