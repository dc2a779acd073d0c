// One seed: a while of work and faults, then calm, in which everything must be well again.
#pragma once

#include <cstdint>
#include <string>

#include "tests/sim/world.h"

namespace belay::checkpoint::sim {

// What was violated, in words; empty if nothing was.
std::string Simulate(std::uint64_t seed, Plants plants, Coverage& coverage, bool tracing);

}  // namespace belay::checkpoint::sim
