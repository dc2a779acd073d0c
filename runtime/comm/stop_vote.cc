#include "runtime/comm/stop_vote.h"

#include <span>

#include "runtime/base/check.h"

namespace belay::runtime {

base::Result<std::unique_ptr<StopVote>> StopVote::Make(MPI_Comm from) {
  BELAY_ASSIGN(MPI_Comm copy, CopyCommunicator(from));
  return std::unique_ptr<StopVote>(new StopVote(copy));
}

StopVote::~StopVote() {
  // A vote still running means the ranks part without agreement: nothing may be waited for, so its communicator stays.
  if (!running_) FreeCommunicator(&communicator_);
}

base::Status StopVote::Start(bool stop) {
  BELAY_CHECK(!running_, "a vote is running");
  mine_ = stop ? 1 : 0;
  all_ = 0;
  const int error = MPI_Iallreduce(&mine_, &all_, 1, MPI_INT, MPI_MAX, communicator_, &request_);
  if (error != MPI_SUCCESS) {
    return base::Fail(base::Code::kCommunication, "the vote on stopping failed: ", MpiErrorText(error));
  }
  running_ = true;
  return {};
}

base::Result<bool> StopVote::Read(base::SteadyTime deadline) {
  if (!running_) return false;
  auto done = WaitForAll(std::span(&request_, 1), {}, {.deadline = deadline});
  if (!done) return base::Wrap(std::move(done).error(), "the vote on stopping failed");
  running_ = false;
  return all_ != 0;
}

}  // namespace belay::runtime
