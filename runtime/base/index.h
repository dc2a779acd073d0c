// Seam: a small ordered key-value store with atomic, synced batches. RocksDB in the daemon, a map in tests.
//
// One writer thread; reads from any thread. Keys are bytes in lexicographic order.
// Errors: kIo, kNoSpace (reopen after making room), kCorrupt (rebuild with reindex).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/result.h"

namespace belay::base {

class IndexBatch {
 public:
  struct Operation {
    std::string key;
    std::optional<std::string> value;  // none: delete
  };
  void Put(std::string key, std::string value) { operations_.push_back({std::move(key), std::move(value)}); }
  void Delete(std::string key) { operations_.push_back({std::move(key), std::nullopt}); }
  const std::vector<Operation>& operations() const { return operations_; }
  bool empty() const { return operations_.empty(); }

 private:
  std::vector<Operation> operations_;
};

class Index {
 public:
  virtual ~Index() = default;
  // All or nothing, durable on return.
  virtual Status Write(const IndexBatch& batch) = 0;
  virtual Result<std::optional<std::string>> Get(std::string_view key) = 0;
  // Every pair whose key starts with `prefix`, in key order.
  virtual Result<std::vector<std::pair<std::string, std::string>>> Scan(std::string_view prefix) = 0;
};

}  // namespace belay::base
