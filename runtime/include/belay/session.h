// A Session is a rank's membership in a run: MPI, its device, the process group, the job it belongs to.
//
//   belay::Session session(argc, argv);
//   ... train ...
//   return session.finish();
//
// Works started by `belay run`, by plain mpirun, or alone (then: one rank). Checkpoints need `belay run`: it begins the
// job's run with belayd and names both in BELAY_JOB and BELAY_SOCKET. Construct it first in main, on the main thread,
// once. Errors at start-up throw belay::Error with a message for people and end the rank with a documented status if
// uncaught.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <torch/torch.h>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "belay/error.h"

namespace belay {

namespace detail {
class SessionState;
}

class Session {
 public:
  Session(int argc, char** argv);
  ~Session();  // leaves MPI; without finish() nothing is saved, and an exception passing by waits for no other rank
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  int rank() const;
  int world_size() const;
  int local_rank() const;
  int local_world_size() const;
  bool is_main() const { return rank() == 0; }
  // Where GPUs are there, cuda:<local rank>, or the one that CUDA_VISIBLE_DEVICES shows this rank; else the CPU.
  torch::Device device() const;
  // NCCL for CUDA tensors, our Open MPI backend for CPU tensors.
  const c10::intrusive_ptr<c10d::ProcessGroup>& process_group() const;

  const std::string& project() const;
  const std::string& job() const;            // empty outside `belay run`
  std::uint64_t generation() const;          // raised by every run of the job; 0 outside `belay run`
  const std::string& run_directory() const;  // for logs and metrics of this run; empty outside `belay run`

  // Tells belay run what this rank is doing besides training steps (validation: no step will finish for a while).
  void idle();

  // The last call of main: waits for the other ranks and for the last commit; the exit status of the program: 0, or 75
  // if the run was stopped early and its state is committed, or 72 if it was stopped and could not be saved.
  int finish();

  detail::SessionState& state() { return *state_; }

 private:
  std::unique_ptr<detail::SessionState> state_;
};

}  // namespace belay
