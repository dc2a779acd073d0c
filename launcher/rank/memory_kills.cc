#include "launcher/rank/memory_kills.h"

#include <algorithm>
#include <charconv>

#include "runtime/base/control_group.h"

namespace belay::launcher {
namespace {

constexpr std::uint64_t kFileBytesMax = 64 << 10;

}  // namespace

std::vector<std::string> KillCountFiles(const std::string& proc_self_cgroup) {
  std::vector<std::string> files = base::MemoryGroupFiles(proc_self_cgroup, "memory.events", "memory.oom_control");
  files.emplace_back("/proc/vmstat");
  return files;
}

std::optional<std::uint64_t> KillCount(std::string_view text) {
  constexpr std::string_view kName = "oom_kill ";
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (!line.starts_with(kName)) continue;
    std::uint64_t count = 0;
    const auto [end, error] = std::from_chars(line.data() + kName.size(), line.data() + line.size(), count);
    if (error == std::errc() && end == line.data() + line.size()) return count;
  }
  return std::nullopt;
}

MemoryKills::MemoryKills(base::FileSystem& files, base::Clock& clock) : files_(files), clock_(clock) {
  const auto groups = base::ReadWholeFile(files_, "/proc/self/cgroup", kFileBytesMax);
  for (const std::string& path : KillCountFiles(groups.value_or(""))) {
    const auto text = base::ReadWholeFile(files_, path, kFileBytesMax);
    if (!text) continue;
    count_ = KillCount(*text);
    if (!count_) continue;
    path_ = path;
    return;
  }
}

void MemoryKills::Look() {
  if (path_.empty()) return;
  const auto text = base::ReadWholeFile(files_, path_, kFileBytesMax);
  if (!text) return;
  const std::optional<std::uint64_t> count = KillCount(*text);
  if (!count) return;
  if (count_ && *count > *count_) grew_at_ = clock_.Now();
  count_ = count;
}

bool MemoryKills::Recent() const { return grew_at_ && clock_.Now() - *grew_at_ <= kRecent; }

}  // namespace belay::launcher
