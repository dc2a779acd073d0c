// Saves of one rank, in step with those of the others.
//
// What ranks must agree on is agreed at save steps only, by one small all-reduce of the worst verdict, after each rank
// has tried to begin on its own:
//   all begun -> the copies start;   a layout changed -> all exchange layouts and try once more;
//   one is busy (it still copies, or the daemon has no memory for another) -> all put the save off to the next step;
//   one failed -> all give it up, rank 0 names the first reason.
// What fails later (a torn copy, a full disk) needs no agreement: a snapshot is committed only if every rank sealed its
// own.
//
// What torch throws (a GPU without memory for the side buffers, above all) is this rank's failure like any other: it
// goes into the verdict, and the ranks stay in step.
//
// Training thread only, except the worker inside and AwaitCopied: the backward hook calls it on the engine's thread of
// a device, but only while the training thread is inside backward(), see backward_hook.h. So the two never meet, and
// what they share needs no lock; the ticket, which the worker also asks, has one.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>

#include "belay/checkpointer.h"
#include "runtime/checkpointer/backward_hook.h"
#include "runtime/checkpointer/save_worker.h"
#include "runtime/cuda/staging_copier.h"
#include "runtime/session/session_state.h"
#include "runtime/state/capture.h"
#include "runtime/state/state_set.h"

namespace belay::runtime {

class Saver {
 public:
  Saver(belay::detail::SessionState& run, StateSet& state, const CheckpointOptions& options, at::Device device,
        base::Clock& clock);
  ~Saver();  // finishes the copy under way

  enum class Begun { kStarted, kPostponed, kFailed };
  struct Request {
    base::Step step;
    std::string reason;
    std::map<std::string, double> metrics;
  };
  // Collective. Starts a save beside training. Every failure is logged; only kCommunication is returned.
  base::Result<Begun> StartBeside(const Request& request);
  // For the last state of a run there is no later save: one that fails is tried again while there is time, unless the
  // reason cannot mend by itself.
  struct Patience {
    base::SteadyTime commit_by;
    base::SteadyTime retry_until;
  };
  // Collective. Saves and waits until the step is committed on all ranks, or patience ends; a save under way is
  // finished first, and is enough if it is of this step.
  base::Result<bool> SaveAndWait(const Request& request, const Patience& patience);
  // Collective. Describes the state and attaches to belayd, so that the first save finds its memory ready. A daemon
  // that does not answer is tried again by the first save.
  base::Status Prepare();

  // The step that this run resumed from: saves name it as their parent.
  void SetParent(std::optional<base::Step> parent) { parent_ = parent; }
  // Any update may follow: returns when no copy reads the state (on a GPU: when later work of the stream is ordered
  // so). The time is counted as lost to saves.
  void AwaitCopied();
  // Waits for the save under way, if there is one, to be committed or to fail. Not collective.
  void AwaitCommit(base::Duration patience);
  // At the end of a step. Logs saves that have ended since, and tells the launcher of commits and of what the last save
  // cost.
  void Report();

 private:
  // In order of weight: the heaviest of any rank counts.
  enum class Verdict : std::int64_t { kBegun = 0, kCommitted = 1, kChanged = 2, kBusy = 3, kFailed = 4 };

  base::Result<Verdict> Agree(Verdict own);
  base::Result<Begun> Start(const Request& request);  // collective, for StartBeside and SaveAndWait
  Verdict TryBegin(const Request& request);           // on kFailed the reason is in failure_
  base::Status Exchange();                            // collective: new capture, deal and plans
  base::Status Recapture();                           // this rank alone, as all that follow
  // The snapshotter reads the capture's memory, the ticket looks at it.
  void DropCapture();
  base::Status MakeSnapshotter();
  base::Result<std::unique_ptr<CopyEngine>> MakeEngine();  // null: all tensors lie in host memory
  base::Status Launch(const Request& request);
  base::Status StartCopy(const Request& request);
  // Collective: rank 0 names the first rank that failed.
  base::Status LogFailure(base::Step step);
  // Worth a line in the log? Attempts that follow each other mostly fail for the same reason.
  bool IsNews(const std::string& reason);
  base::Result<bool> SaveUntil(const Request& request, const Patience& patience);  // SaveAndWait's work
  void Stalled(double seconds);
  void ShowStall();

  belay::detail::SessionState& run_;
  StateSet& state_;
  const CheckpointOptions options_;
  const at::Device device_;
  base::Clock& clock_;
  const base::Rank rank_;

  std::unique_ptr<Capture> capture_;
  std::string fingerprint_;
  std::vector<checkpoint::ShardPlan> plans_;
  StagingCopier* staging_copier_ = nullptr;  // of snapshotter_, if tensors are on a GPU
  std::unique_ptr<checkpoint::Snapshotter> snapshotter_;
  std::shared_ptr<struct CopyTicket> ticket_;
  std::function<bool()> frozen_witness_;  // of capture_: are the frozen tensors as the last copy found them?
  std::unique_ptr<BackwardHook> hook_;
  std::optional<base::Step> parent_, committed_;
  std::optional<base::Error> failure_;  // of the last attempt to save, on this rank
  std::optional<std::string> said_;     // within SaveAndWait: the last reason logged
  bool warned_of_side_ = false;
  // What the last save that began beside training has cost so far. Shown once its update has been let through: without
  // that wait it would leave out the main part.
  double stall_seconds_ = 0;
  bool update_to_come_ = false;
  SaveWorker worker_;  // last, so that it ends before what it uses
};

}  // namespace belay::runtime
