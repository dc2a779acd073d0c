// Whether the kernel's out-of-memory killer has just been at work.
//
// It leaves no word with the process that it kills, only a count: that of the control group (memory.events, or
// memory.oom_control of version 1), or else that of the whole machine (/proc/vmstat), where other people's processes
// count too. So only what grew in the last seconds says anything about a program that ends now.
// Source: the kernel's Documentation/admin-guide/cgroup-v2.rst (memory.events) and cgroup-v1/memory.rst.
//
// One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/clock.h"
#include "runtime/base/file_system.h"

namespace belay::launcher {

// The files that may hold the count, given /proc/self/cgroup: of this process's own group first, then of those above,
// of the machine last. Pure.
std::vector<std::string> KillCountFiles(const std::string& proc_self_cgroup);
// The count in such a file; no value if it holds none. Pure.
std::optional<std::uint64_t> KillCount(std::string_view text);

class MemoryKills {
 public:
  // How long ago a kill may be: a large process takes a while to go.
  static constexpr base::Duration kRecent = std::chrono::seconds(10);

  // Chooses the first file that holds a count, for good: different ones cannot be compared.
  MemoryKills(base::FileSystem& files, base::Clock& clock);
  // Reads the count. Often, because a kill is dated by the look that finds it.
  void Look();
  // The count has grown within kRecent.
  bool Recent() const;

 private:
  base::FileSystem& files_;
  base::Clock& clock_;
  std::string path_;  // empty: nobody counts here
  std::optional<std::uint64_t> count_;
  std::optional<base::SteadyTime> grew_at_;
};

}  // namespace belay::launcher
