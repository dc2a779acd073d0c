// Pipes between a program and whoever captures its output, and whole writes to the standard streams.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "runtime/base/result.h"
#include "runtime/base/unique_fd.h"

namespace belay::base {

struct Pipe {
  UniqueFd reading;
  UniqueFd writing;
};
// Both ends close on exec.
Result<Pipe> MakePipe();

// Waits for bytes and reads at most `bytes.size()`; 0 when every writer has closed.
Result<std::size_t> ReadSome(int fd, std::span<char> bytes);

// Writes everything, however long the reader takes. kUnavailable when the reader has gone.
Status WriteAll(int fd, std::string_view bytes);

}  // namespace belay::base
