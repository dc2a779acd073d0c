// What torch, an allocator or a callback of the program threw, as an Error: training outlives a save that fails.
#pragma once

#include <string_view>

#include "runtime/base/result.h"

namespace belay::runtime {

// Only inside a catch block, also of catch (...): the exception being handled, its message opened by `doing`
// ("capturing the state"). kOutOfMemory where memory of the host or the device could not be had, kDevice for torch's
// other errors, kInvalidArgument for all else, which is the program's own.
base::Error ThrownError(std::string_view doing);

}  // namespace belay::runtime
