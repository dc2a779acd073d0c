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
  if (thread_.joinable()) thread_.join();
}

void SaveWorker::Start(Save save) {
  // First what may fail: nobody would ever end the stage of a worker without a thread.
  if (!thread_.joinable()) thread_ = std::thread([this] { Loop(); });
  {
    const std::lock_guard lock(mutex_);
    BELAY_CHECK(stage_ == Stage::kIdle, "a save starts while another is under way");
    save_ = std::move(save);
    stage_ = Stage::kCopying;
  }
  changed_.notify_all();
}

bool SaveWorker::Idle() const {
  const std::lock_guard lock(mutex_);
  return stage_ == Stage::kIdle;
}

void SaveWorker::AwaitCopied() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stage_ != Stage::kCopying; });
}

bool SaveWorker::AwaitIdle(std::optional<base::Duration> deadline) {
  std::unique_lock lock(mutex_);
  const auto idle = [&] { return stage_ == Stage::kIdle; };
  if (deadline) return changed_.wait_for(lock, *deadline, idle);
  changed_.wait(lock, idle);
  return true;
}

std::vector<SaveReport> SaveWorker::TakeReports() {
  const std::lock_guard lock(mutex_);
  return std::exchange(reports_, {});
}

void SaveWorker::Loop() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return leaving_ || stage_ == Stage::kCopying; });
    if (stage_ != Stage::kCopying) return;
    const Save save = std::move(save_);
    lock.unlock();
    SaveReport report = Run(save);
    lock.lock();
    reports_.push_back(std::move(report));
    stage_ = Stage::kIdle;
    changed_.notify_all();
  }
}

SaveReport SaveWorker::Run(const Save& save) {
  SaveReport report{.step = save.step};
  const auto start = clock_.Now();
  auto status = save.snapshotter->Copy(save.copy);
  if (save.copy_ended) save.copy_ended();
  report.copy_seconds = Seconds(clock_.Now() - start);
  {
    const std::lock_guard lock(mutex_);
    stage_ = Stage::kCommitting;
  }
  changed_.notify_all();
  if (status) status = save.snapshotter->Seal(save.records, save.metrics, save.parent_step);
  if (!status) {
    report.failure = std::move(status).error();
    report.here = true;
    return report;
  }
  while (true) {
    auto outcome = save.snapshotter->Wait(save.step, kWaitSlice);
    if (!outcome) {
      report.failure = std::move(outcome).error();
      return report;
    }
    if (outcome->state == checkpoint::SnapshotState::kCommitted) {
      report.commit_seconds = Seconds(clock_.Now() - start);
      return report;
    }
    if (outcome->state == checkpoint::SnapshotState::kFailed) {
      report.failure = outcome->failure.value_or(base::Error{base::Code::kInternal, "the daemon gave no reason"});
      return report;
    }
    const std::lock_guard lock(mutex_);
    if (leaving_) {
      report.failure = base::Error{base::Code::kCancelled, "nobody waits for the commit any more"};
      return report;
    }
  }
}

}  // namespace belay::runtime
