#include "runtime/checkpointer/save_worker.h"

#include <utility>

#include "runtime/base/check.h"

namespace belay::runtime {
namespace {

// How long one question to the daemon lasts; only bounds how fast the worker can leave.
constexpr base::Duration kWaitSlice = std::chrono::milliseconds(500);

double Seconds(base::Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

SaveWorker::SaveWorker(base::Clock& clock) : clock_(clock) {}

SaveWorker::~SaveWorker() {
  {
    const std::lock_guard lock(mutex_);
    leaving_ = true;
  }
  changed_.notify_all();
  if (copying_.joinable()) copying_.join();
  if (committing_.joinable()) committing_.join();
}

void SaveWorker::Start(Save save) {
  // First what may fail: nobody would ever end the stage of a worker without a thread.
  if (!copying_.joinable()) copying_ = std::thread([this] { CopyLoop(); });
  if (!committing_.joinable()) committing_ = std::thread([this] { CommitLoop(); });
  {
    const std::lock_guard lock(mutex_);
    BELAY_CHECK(stage_ == Stage::kFree, "a save starts while another is copied");
    save_ = std::move(save);
    stage_ = Stage::kCopying;
  }
  changed_.notify_all();
}

bool SaveWorker::Free() const {
  const std::lock_guard lock(mutex_);
  return stage_ == Stage::kFree;
}

bool SaveWorker::Idle() const {
  const std::lock_guard lock(mutex_);
  return stage_ == Stage::kFree && sealed_.empty();
}

void SaveWorker::AwaitCopied() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stage_ != Stage::kCopying; });
}

bool SaveWorker::AwaitIdle(std::optional<base::Duration> deadline) {
  std::unique_lock lock(mutex_);
  const auto idle = [&] { return stage_ == Stage::kFree && sealed_.empty(); };
  if (deadline) return changed_.wait_for(lock, *deadline, idle);
  changed_.wait(lock, idle);
  return true;
}

std::vector<SaveReport> SaveWorker::TakeReports() {
  const std::lock_guard lock(mutex_);
  return std::exchange(reports_, {});
}

void SaveWorker::CopyLoop() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return leaving_ || stage_ == Stage::kCopying; });
    if (stage_ != Stage::kCopying) return;
    const Save save = std::move(save_);
    lock.unlock();
    Sealed sealed = CopyAndSeal(save);
    lock.lock();
    if (sealed.report.failure) {
      reports_.push_back(std::move(sealed.report));
    } else {
      sealed_.push_back(std::move(sealed));
    }
    stage_ = Stage::kFree;
    changed_.notify_all();
  }
}

SaveWorker::Sealed SaveWorker::CopyAndSeal(const Save& save) {
  Sealed sealed{save.snapshotter, {.step = save.step}, clock_.Now()};
  auto status = save.snapshotter->Copy(save.copy);
  if (save.copy_ended) save.copy_ended();
  sealed.report.copy_seconds = Seconds(clock_.Now() - sealed.start);
  {
    const std::lock_guard lock(mutex_);
    stage_ = Stage::kSealing;
  }
  changed_.notify_all();
  if (status) status = save.snapshotter->Seal(save.records, save.metrics, save.parent_step);
  if (!status) {
    sealed.report.failure = std::move(status).error();
    sealed.report.here = true;
  }
  return sealed;
}

void SaveWorker::CommitLoop() {
  std::unique_lock lock(mutex_);
  while (true) {
    // The copy under way is still sealed when the worker leaves, so this thread goes after the other.
    changed_.wait(lock, [&] { return !sealed_.empty() || (leaving_ && stage_ == Stage::kFree); });
    if (sealed_.empty()) return;
    Sealed sealed = sealed_.front();  // a copy: it counts as under way until its report is there
    lock.unlock();
    AwaitCommit(sealed);
    lock.lock();
    sealed_.pop_front();
    reports_.push_back(std::move(sealed.report));
    changed_.notify_all();
  }
}

void SaveWorker::AwaitCommit(Sealed& sealed) {
  SaveReport& report = sealed.report;
  while (true) {
    auto outcome = sealed.snapshotter->Wait(report.step, kWaitSlice);
    if (!outcome) {
      report.failure = std::move(outcome).error();
      return;
    }
    if (outcome->state == checkpoint::SnapshotState::kCommitted) {
      report.commit_seconds = Seconds(clock_.Now() - sealed.start);
      return;
    }
    if (outcome->state == checkpoint::SnapshotState::kFailed) {
      report.failure = outcome->failure.value_or(base::Error{base::Code::kInternal, "the daemon gave no reason"});
      return;
    }
    const std::lock_guard lock(mutex_);
    if (leaving_) {
      report.failure = base::Error{base::Code::kCancelled, "nobody waits for the commit any more"};
      return;
    }
  }
}

}  // namespace belay::runtime
