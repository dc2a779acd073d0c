#include "runtime/base/check.h"

#include <execinfo.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace belay::base::detail {

void CheckFailed(const char* file, int line, const char* condition, const std::string& words) {
  std::fprintf(stderr, "belay: bug: %s:%d: CHECK(%s) failed: %s\n", file, line, condition, words.c_str());
  void* frames[64];
  backtrace_symbols_fd(frames, backtrace(frames, 64), STDERR_FILENO);
  std::abort();
}

}  // namespace belay::base::detail
