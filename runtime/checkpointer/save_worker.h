// The threads that carry saves from begun to committed, beside the training loop: one copies and seals, one save at a
// time; the other waits for the commits of those that are sealed, in their order.
//
//   free --Start--> copying --> sealing --> free          sealed saves: --> committed or failed --> a report
//
// Start, Free, AwaitCopied, AwaitIdle and TakeReports are for the training thread; it may begin or abandon a snapshot
// only while the worker is free, and let go of the Snapshotter only while it is idle. Knows nothing of torch.
#pragma once

#include <condition_variable>
#include <deque>
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
  // Finishes the copy and seals it; does not wait for commits.
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
  // The worker must be free.
  void Start(Save save);
  bool Free() const;  // nothing is copied or sealed
  bool Idle() const;  // and no commit is waited for
  // Returns when nothing reads the state any more. Costs a lock when nothing does anyway.
  void AwaitCopied();
  // False if the deadline passed first.
  bool AwaitIdle(std::optional<base::Duration> deadline);
  // Of saves that ended since the last call, in order.
  std::vector<SaveReport> TakeReports();

 private:
  enum class Stage { kFree, kCopying, kSealing };
  struct Sealed {
    checkpoint::Snapshotter* snapshotter = nullptr;
    SaveReport report;
    base::SteadyTime start{};
  };
  void CopyLoop();
  void CommitLoop();
  Sealed CopyAndSeal(const Save& save);
  void AwaitCommit(Sealed& sealed);

  base::Clock& clock_;
  mutable std::mutex mutex_;  // guards all below
  std::condition_variable changed_;
  Stage stage_ = Stage::kFree;
  bool leaving_ = false;
  Save save_;
  std::deque<Sealed> sealed_;  // the first one's commit is waited for
  std::vector<SaveReport> reports_;
  std::thread copying_, committing_;  // started by the first save
};

}  // namespace belay::runtime
