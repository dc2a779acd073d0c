// A process that can start no more threads, as under a limit of processes or of memory.
#pragma once

#include <sys/resource.h>

#include <fstream>
#include <string>
#include <system_error>
#include <thread>

namespace belay::base {

// A sanitizer's own memory cannot be had either then, and it ends the process.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadFamineIsSurvivable = false;
#else
inline constexpr bool kThreadFamineIsSurvivable = true;
#endif

// From now on no thread starts in this process, because its address space cannot grow by a stack; false if one still
// does. For a process of a test's own, in which no thread has ended (its stack would be used again): a death test.
inline bool StarveOfThreads() {
  std::ifstream statm("/proc/self/statm");
  std::size_t pages = 0;
  statm >> pages;
  const rlim_t now = static_cast<rlim_t>(pages) * 4096 + (1U << 20);
  const rlimit limit{now, now};
  if (::setrlimit(RLIMIT_AS, &limit) != 0) return false;
  try {
    std::thread([] {}).join();
  } catch (const std::system_error&) {
    return true;
  }
  return false;
}

}  // namespace belay::base
