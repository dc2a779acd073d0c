#include "checkpoint/staging/memory_budget.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "runtime/base/control_group.h"

namespace belay::checkpoint {

namespace {
constexpr std::size_t kSmallFileBytesMax = 64 << 10;
}

std::vector<std::string> MemoryLimitFiles(const std::string& proc_self_cgroup) {
  return base::MemoryGroupFiles(proc_self_cgroup, "memory.max", "memory.limit_in_bytes");
}

std::optional<std::uint64_t> LeastMemoryLimit(base::FileSystem& files, const std::vector<std::string>& limit_files) {
  std::optional<std::uint64_t> least;
  for (const std::string& path : limit_files) {
    const auto text = base::ReadWholeFile(files, path, kSmallFileBytesMax);
    if (!text) continue;
    std::uint64_t limit = 0;  // "max" is no number, and no limit
    const auto parsed = std::from_chars(text->data(), text->data() + text->size(), limit);
    if (parsed.ec == std::errc()) least = std::min(least.value_or(limit), limit);
  }
  return least;
}

std::uint64_t DefaultMemoryBudget(base::FileSystem& files) {
  const auto pages = static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES));
  std::uint64_t bytes = pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  if (const auto groups = base::ReadWholeFile(files, "/proc/self/cgroup", kSmallFileBytesMax)) {
    bytes = std::min(bytes, LeastMemoryLimit(files, MemoryLimitFiles(*groups)).value_or(bytes));
  }
  return bytes / 2;
}

}  // namespace belay::checkpoint
