// The vote on stopping: beside each step an all-reduce of one int runs, and when the step ends all ranks read the same
// answer.
//
// A rank that is told to stop during step k brings it into the vote that starts when step k ends, so all leave after
// step k + 1. Non-blocking on a communicator of its own: a step waits for it only if the others are late anyway.
// Training thread only.
#pragma once

#include <memory>

#include "runtime/comm/mpi_c.h"

#include "runtime/base/result.h"
#include "runtime/comm/mpi_library.h"

namespace belay::runtime {

class StopVote {
 public:
  static base::Result<std::unique_ptr<StopVote>> Make(MPI_Comm from);
  ~StopVote();
  StopVote(const StopVote&) = delete;
  StopVote& operator=(const StopVote&) = delete;

  // Starts a vote; none may be running. Every rank calls alike.
  base::Status Start(bool stop);
  // The answer of the running vote, the same on all ranks; false if none runs. kTimeout: the others have not voted by
  // then, and it still runs.
  base::Result<bool> Read(base::SteadyTime deadline = kNoDeadline);
  bool running() const { return running_; }

 private:
  explicit StopVote(MPI_Comm communicator) : communicator_(communicator) {}

  MPI_Comm communicator_;
  MPI_Request request_ = MPI_REQUEST_NULL;
  bool running_ = false;
  int mine_ = 0;
  int all_ = 0;
};

}  // namespace belay::runtime
