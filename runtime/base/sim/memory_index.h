// Index twin: a map. Thread-safe.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "runtime/base/index.h"

namespace belay::base {

class MemoryIndex final : public Index {
 public:
  Status Write(const IndexBatch& batch) override;
  Result<std::optional<std::string>> Get(std::string_view key) override;
  Result<std::vector<std::pair<std::string, std::string>>> Scan(std::string_view prefix) override;

  // What an index that was lost looks like.
  void Clear();

 private:
  std::mutex mutex_;
  std::map<std::string, std::string, std::less<>> pairs_;  // guarded by mutex_
};

}  // namespace belay::base
