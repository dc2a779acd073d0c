// BELAY_CHECK(condition, words...): an invariant of belay's own code. On in every build: prints the condition, the
// words and a backtrace to stderr, then aborts. Bad input from users, disk or network is an Error, never a CHECK.
#pragma once

#include <string>

#include "runtime/base/str.h"

namespace belay::base::detail {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition, const std::string& words);
}  // namespace belay::base::detail

#define BELAY_CHECK(condition, ...)                                                                        \
  do {                                                                                                     \
    if (!(condition)) [[unlikely]] {                                                                       \
      ::belay::base::detail::CheckFailed(__FILE__, __LINE__, #condition, ::belay::base::Str(__VA_ARGS__)); \
    }                                                                                                      \
  } while (false)
