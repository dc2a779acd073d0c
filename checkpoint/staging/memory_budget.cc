#include "checkpoint/staging/memory_budget.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <sstream>

#include "runtime/base/str.h"

namespace belay::checkpoint {

namespace {
constexpr std::size_t kSmallFileBytesMax = 64 << 10;
}

std::vector<std::string> MemoryLimitFiles(const std::string& proc_self_cgroup) {
  std::vector<std::string> files;
  std::istringstream lines(proc_self_cgroup);
  for (std::string line; std::getline(lines, line);) {  // number:controllers:path
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool unified = controllers == ",,";
    if (!unified && controllers.find(",memory,") == std::string::npos) continue;
    const std::string root = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const std::string name = unified ? "/memory.max" : "/memory.limit_in_bytes";
    for (std::string path = line.substr(second + 1);;) {
      while (!path.empty() && path.back() == '/') path.pop_back();
      files.push_back(root + path + name);
      if (path.empty()) break;
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return files;
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
