// The thread that carries one save from begun to committed, beside the training loop.
//
//   idle --Start--> copying --> waiting for the commit --> idle         (a copy or seal that fails goes straight to
//   idle)
//
// Start, AwaitCopied, AwaitIdle and TakeReports are for the training thread; it may touch the Snapshotter (Begin,
// Abandon) only while the worker is idle. Knows nothing of torch.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/client/snapshotter.h"
#include "runtime/base/clock.h"

namespace belay::runtime {

struct SaveReport {
  base::Step step;
  std::optional<base::Error> failure;  // none: committed
  bool here = false;                   // the failure is this rank's own (copy, seal), not one reported by the daemon
  double copy_seconds = 0;
  double commit_seconds = 0;  // from the end of the update to the commit
};

class SaveWorker {
 public:
  explicit SaveWorker(base::Clock& clock);
  // Finishes the copy and seals it; does not wait for the commit.
  ~SaveWorker();
  SaveWorker(const SaveWorker&) = delete;
  SaveWorker& operator=(const SaveWorker&) = delete;

  struct Save {
    checkpoint::Snapshotter* snapshotter = nullptr;  // Begin has succeeded
    base::Step step;
    checkpoint::Snapshotter::CopyRequest copy;
    std::function<void()> copy_ended;  // may be empty; called on the worker's thread, however the copy went
    checkpoint::Records records;
    std::map<std::string, double> metrics;
    std::optional<base::Step> parent_step;
  };
  // The worker must be idle.
  void Start(Save save);
  bool Idle() const;
  // Returns when nothing reads the state any more. Costs a lock when nothing does anyway.
  void AwaitCopied();
  // False if the deadline passed first.
  bool AwaitIdle(std::optional<base::Duration> deadline);
  // Of saves that ended since the last call, in order.
  std::vector<SaveReport> TakeReports();

 private:
  enum class Stage { kIdle, kCopying, kCommitting };
  void Loop();
  SaveReport Run(const Save& save);

  base::Clock& clock_;
  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  Stage stage_ = Stage::kIdle;
  bool leaving_ = false;
  Save save_;
  std::vector<SaveReport> reports_;
  std::thread thread_;  // started by the first save
};

}  // namespace belay::runtime
