// An Index that fails on request, in front of any other. Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>

#include "runtime/base/index.h"

namespace belay::base {

class FaultyIndex final : public Index {
 public:
  explicit FaultyIndex(Index& index) : index_(index) {}

  // After `skip` good writes the next `count` are refused (0: all that follow) and leave nothing behind.
  void FailWrites(Code code, std::uint64_t skip = 0, std::uint64_t count = 1);
  // After `skip` good writes the next one happens, and its answer is `code` all the same: what a caller sees whose
  // machine dies between the log's sync and the return.
  void LoseAnswer(Code code, std::uint64_t skip = 0);
  // The same for reads (Get and Scan).
  void FailReads(Code code, std::uint64_t skip = 0, std::uint64_t count = 1);
  void Mend();

  Status Write(const IndexBatch& batch) override;
  Result<std::optional<std::string>> Get(std::string_view key) override;
  Result<std::vector<std::pair<std::string, std::string>>> Scan(std::string_view prefix) override;

 private:
  struct Plan {
    Code code = Code::kIo;
    std::uint64_t skip = 0;
    std::uint64_t count = 1;  // 0: for ever
    bool after = false;       // the operation happens first
    bool active = false;
  };
  // Whether this passage fails; uses the plan up.
  static bool Fires(Plan& plan);

  Index& index_;
  std::mutex mutex_;
  Plan writes_, reads_;  // guarded by mutex_
};

}  // namespace belay::base
