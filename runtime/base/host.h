// Facts about this machine and this terminal that a launcher asks for.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "runtime/base/result.h"

namespace belay::base {

// A TCP port that was free a moment ago. Somebody else may take it before it is used; the next attempt draws another.
Result<std::uint16_t> FreeTcpPort();

// Cores this process may run on.
int CoreCount();

// Which ones, for the calling thread; none where the kernel does not say.
std::vector<int> AllowedCores();

// Keeps the calling thread, and the threads that it starts meanwhile, on those of these cores that it may use anyway.
// No effect if those are none, or the kernel refuses. Made and destroyed on one thread.
class StayOnCores {
 public:
  explicit StayOnCores(const std::vector<int>& cores);
  ~StayOnCores();
  StayOnCores(const StayOnCores&) = delete;
  StayOnCores& operator=(const StayOnCores&) = delete;

 private:
  std::vector<int> before_;  // empty: nothing to put back
};

// The calling thread's reads and computing give way to everybody else's: idle I/O class, lowest CPU priority. No effect
// where the kernel refuses.
void LetOthersGoFirst();

// Columns of the terminal behind `fd`; no value if it is none.
std::optional<int> TerminalColumns(int fd);

}  // namespace belay::base
