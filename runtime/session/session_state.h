// What the parts of the runtime know of the run they are in. Session makes it; Checkpointer, Metrics and DataParallel
// use it.
//
// Free of torch and of mpi.h, so that including it costs nothing. Everything here belongs to the training thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/clock.h"
#include "runtime/base/control_page.h"
#include "runtime/base/ids.h"
#include "runtime/base/result.h"

namespace belay::base {
class SharedControlPage;  // runtime/base/shared_memory.h
}

namespace belay::runtime {
class MpiControl;  // runtime/comm/mpi_control.h
class StopVote;    // runtime/comm/stop_vote.h
}  // namespace belay::runtime

namespace belay::detail {

// Where this process stands.
struct Place {
  int rank = 0;
  int world_size = 1;
  int local_rank = 0;
  int local_world_size = 1;
  int node_rank = 0;  // torchrun's GROUP_RANK
};

// What belay-rank said in the environment; all empty or 0 where nobody did.
struct RunEnvironment {
  std::string project;
  std::string job;
  std::uint64_t generation = 0;
  std::string socket;         // belayd's; empty: no checkpoints
  std::string run_directory;  // run.json, logs and metrics of this run
  std::int64_t grace_seconds = 0;
};

enum class SaveOutcome {
  kNothing,  // nobody wanted a save
  kSaved,    // the state after the last step is committed
  kFailed,   // it is not
};

struct TorchParts;  // device and process group: runtime/session/torch_parts.h

class SessionState {
 public:
  SessionState();
  ~SessionState();
  SessionState(const SessionState&) = delete;
  SessionState& operator=(const SessionState&) = delete;

  Place place;
  RunEnvironment environment;
  std::shared_ptr<TorchParts> torch;
  std::optional<std::int32_t> memory_node;  // the NUMA node near this rank; none: all alike, or not known

  // ---- The control plane: small messages between all ranks, over a communicator of its own. Every rank must call
  // alike. Errors: kCommunication (a rank is gone or MPI failed): restart from the last checkpoint.
  base::Status Broadcast(std::string* bytes, int root = 0);                  // the others' bytes become root's
  base::Result<std::vector<std::string>> AllGather(std::string_view bytes);  // one a rank, in rank order
  base::Result<std::int64_t> AllReduceMin(std::int64_t value);
  base::Result<std::int64_t> AllReduceMax(std::int64_t value);
  base::Status Barrier();

  // ---- Stopping. A rank may be told by the control page or by SIGTERM, SIGUSR1, SIGUSR2; the vote makes all of them
  // stop after the same step.
  bool StopAskedHere() const;
  // Call once at the end of every step, and once before the first: reads the vote that ran beside this step, starts the
  // next step's. True: every rank leaves after this step (no further vote is started).
  base::Result<bool> VoteStep();
  // The Checkpointer saw a true vote: the run ends early, and finish() answers 75 if the last save holds, else 72.
  void RecordStop() { stopped_ = true; }
  bool stopped() const { return stopped_; }

  // ---- What the launcher sees. No effect outside belay run.
  base::ControlPage* page() { return page_; }  // null outside belay run
  void EnterPhase(base::Phase phase);          // with a heartbeat
  void StepsFinished(std::int64_t steps);      // count of finished steps; phase kStep, with a heartbeat
  void Committed(std::int64_t step);           // newest committed step
  void Resumed(std::int64_t step);             // -1: fresh start
  // Which checkpoint that was, and how many steps after it prove that it is worth resuming from; 0: nobody shall judge.
  void ResumedFrom(base::Generation generation, std::uint32_t trust_steps);
  void Diverged();  // a loss is no number, where the run that saved the checkpoint had one
  // Training time lost to saves since Metrics last looked: the Checkpointer adds, Metrics takes and sets it to 0.
  double stall_seconds = 0;
  // Saves committed since Metrics last looked.
  struct Commit {
    std::int64_t step = 0;
    double copy_seconds = 0;    // out of training memory
    double commit_seconds = 0;  // from the end of the update until the checkpoint is durable
  };
  std::vector<Commit> commits;

  // ---- finish() calls these in the order of registration, on every rank alike: the last save and its commit. They
  // must not throw. The answer is a handle for RemoveFinishCallback.
  using FinishCallback = std::function<SaveOutcome()>;
  int AddFinishCallback(FinishCallback callback);
  void RemoveFinishCallback(int handle);
  bool finished() const { return finished_; }

  // ---- For Session alone.
  base::Status Start(int* argc, char*** argv);  // control page, MPI, place; the process groups come after it
  runtime::MpiControl& control() { return *control_; }
  bool single_node() const { return place.local_world_size == place.world_size; }
  base::Result<int> Finish();  // last saves, agreement on how it went: the exit status; see Session::finish
  // Before leaving without Finish(): MPI may not be left while a vote is under way. Reads it if the others take part in
  // it within `patience`; if not, they are elsewhere, and it stays as it is.
  void SettleVote(base::Duration patience);
  void LeaveMpi();  // with all other ranks

 private:
  struct Callback {
    int handle;
    FinishCallback run;
  };

  std::unique_ptr<runtime::MpiControl> control_;
  std::unique_ptr<runtime::StopVote> vote_;
  std::unique_ptr<base::SharedControlPage> shared_page_;
  base::ControlPage* page_ = nullptr;
  std::vector<Callback> callbacks_;
  int next_handle_ = 1;
  bool stopped_ = false;
  bool finished_ = false;
  int exit_status_ = 0;

  base::Status FindPlace();
  void AttachControlPage();
  void Heartbeat();
};

}  // namespace belay::detail
