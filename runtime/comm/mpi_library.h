// Open MPI, wrapped: starting it, its errors as words, and waiting that leaves the core to others.
//
// Every wait polls (MPI_Testall) with a back-off, because MPI's own blocking calls spin: beside a backward pass, or
// with more ranks than cores, that takes the processor from whom they wait for. Needs MPI_THREAD_MULTIPLE: the training
// thread votes and exchanges control messages while the backend's thread moves gradients, each on communicators of its
// own.
#pragma once

#include <atomic>
#include <functional>
#include <span>
#include <string>

#include "runtime/comm/mpi_c.h"

#include "runtime/base/clock.h"
#include "runtime/base/result.h"

namespace belay::runtime {

// MPI_Init_thread, unless the program did it. kUnsupported if MPI cannot serve several threads.
base::Status StartMpi(int* argc, char*** argv);
// MPI_Finalize, if StartMpi initialised and nobody finalised. Waits for the other ranks.
void FinishMpi();
bool MpiRunning();

std::string MpiErrorText(int error);

// A copy of a communicator whose errors come back as codes. Collective.
base::Result<MPI_Comm> CopyCommunicator(MPI_Comm from);
void FreeCommunicator(MPI_Comm* communicator);

inline constexpr base::SteadyTime kNoDeadline = base::SteadyTime::max();

// Spins shortly, then yields, then sleeps: call it each time nothing had happened.
class Backoff {
 public:
  void Pause();
  void Reset() { turns_ = 0; }

 private:
  int turns_ = 0;
};

struct WaitOptions {
  base::SteadyTime deadline = kNoDeadline;
  std::function<bool()> meanwhile;             // called between polls; true if it got something done
  const std::atomic<bool>* give_up = nullptr;  // set: stop waiting, kCancelled
};

// Waits until all requests are complete. kTimeout: some are not, and stay in the span (non-null), their buffers still
// in use. kCommunication: MPI's words; `failed` (if given) then tells the index of the request it is about, or -1.
// `statuses` is empty or as long as `requests`.
base::Status WaitForAll(std::span<MPI_Request> requests, std::span<MPI_Status> statuses = {},
                        const WaitOptions& options = {}, int* failed = nullptr);

}  // namespace belay::runtime
