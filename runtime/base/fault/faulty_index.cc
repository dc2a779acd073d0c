#include "runtime/base/fault/faulty_index.h"

namespace belay::base {

void FaultyIndex::FailWrites(Code code, std::uint64_t skip, std::uint64_t count) {
  const std::scoped_lock lock(mutex_);
  writes_ = {code, skip, count, false, true};
}

void FaultyIndex::LoseAnswer(Code code, std::uint64_t skip) {
  const std::scoped_lock lock(mutex_);
  writes_ = {code, skip, 1, true, true};
}

void FaultyIndex::FailReads(Code code, std::uint64_t skip, std::uint64_t count) {
  const std::scoped_lock lock(mutex_);
  reads_ = {code, skip, count, false, true};
}

void FaultyIndex::Mend() {
  const std::scoped_lock lock(mutex_);
  writes_ = {};
  reads_ = {};
}

bool FaultyIndex::Fires(Plan& plan) {
  if (!plan.active) return false;
  if (plan.skip > 0) {
    --plan.skip;
    return false;
  }
  if (plan.count == 1) plan.active = false;
  if (plan.count > 1) --plan.count;
  return true;
}

Status FaultyIndex::Write(const IndexBatch& batch) {
  const std::scoped_lock lock(mutex_);
  const Plan plan = writes_;
  if (!Fires(writes_)) return index_.Write(batch);
  if (plan.after) BELAY_TRY(index_.Write(batch));
  return Fail(plan.code, "injected fault: index write");
}

Result<std::optional<std::string>> FaultyIndex::Get(std::string_view key) {
  const std::scoped_lock lock(mutex_);
  const Code code = reads_.code;
  if (Fires(reads_)) return Fail(code, "injected fault: index read");
  return index_.Get(key);
}

Result<std::vector<std::pair<std::string, std::string>>> FaultyIndex::Scan(std::string_view prefix) {
  const std::scoped_lock lock(mutex_);
  const Code code = reads_.code;
  if (Fires(reads_)) return Fail(code, "injected fault: index read");
  return index_.Scan(prefix);
}

}  // namespace belay::base
