#include "runtime/base/sim/memory_index.h"

namespace belay::base {

Status MemoryIndex::Write(const IndexBatch& batch) {
  const std::scoped_lock lock(mutex_);
  for (const IndexBatch::Operation& operation : batch.operations()) {
    if (operation.value) {
      pairs_[operation.key] = *operation.value;
    } else {
      pairs_.erase(operation.key);
    }
  }
  return {};
}

Result<std::optional<std::string>> MemoryIndex::Get(std::string_view key) {
  const std::scoped_lock lock(mutex_);
  const auto found = pairs_.find(key);
  if (found == pairs_.end()) return std::optional<std::string>();
  return std::optional(found->second);
}

Result<std::vector<std::pair<std::string, std::string>>> MemoryIndex::Scan(std::string_view prefix) {
  const std::scoped_lock lock(mutex_);
  std::vector<std::pair<std::string, std::string>> found;
  for (auto at = pairs_.lower_bound(prefix); at != pairs_.end() && at->first.starts_with(prefix); ++at) {
    found.push_back(*at);
  }
  return found;
}

void MemoryIndex::Clear() {
  const std::scoped_lock lock(mutex_);
  pairs_.clear();
}

}  // namespace belay::base
