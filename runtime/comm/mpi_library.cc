#include "runtime/comm/mpi_library.h"

#include <algorithm>
#include <array>
#include <thread>
#include <vector>

namespace belay::runtime {
namespace {

bool started_here = false;

}  // namespace

std::string MpiErrorText(int error) {
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  if (MPI_Error_string(error, text.data(), &length) != MPI_SUCCESS) return base::Str("MPI error ", error);
  return {text.data(), static_cast<std::size_t>(length)};
}

bool MpiRunning() {
  int initialized = 0;
  int finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  return initialized != 0 && finalized == 0;
}

base::Status StartMpi(int* argc, char*** argv) {
  int initialized = 0;
  int finalized = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&finalized);
  if (finalized != 0) {
    return base::Fail(base::Code::kUnsupported, "MPI was already left: a process can have one Session only");
  }
  int level = MPI_THREAD_SINGLE;
  if (initialized != 0) {
    MPI_Query_thread(&level);
  } else {
    // On failure Open MPI prints why and ends the process: its errors are fatal until it runs.
    const int error = MPI_Init_thread(argc, argv, MPI_THREAD_MULTIPLE, &level);
    if (error != MPI_SUCCESS) return base::Fail(base::Code::kUnavailable, "MPI does not start: ", MpiErrorText(error));
    started_here = true;
  }
  if (level < MPI_THREAD_MULTIPLE) {
    return base::Fail(base::Code::kUnsupported, "MPI runs without MPI_THREAD_MULTIPLE, which belay needs: ",
                      initialized != 0 ? "ask for it in your MPI_Init_thread, or leave MPI to belay::Session"
                                       : "use an Open MPI built with it");
  }
  return {};
}

void FinishMpi() {
  if (started_here && MpiRunning()) MPI_Finalize();
}

base::Result<MPI_Comm> CopyCommunicator(MPI_Comm from) {
  MPI_Comm copy = MPI_COMM_NULL;
  const int error = MPI_Comm_dup(from, &copy);
  if (error != MPI_SUCCESS) {
    return base::Fail(base::Code::kCommunication, "MPI_Comm_dup failed: ", MpiErrorText(error));
  }
  MPI_Comm_set_errhandler(copy, MPI_ERRORS_RETURN);
  return copy;
}

void FreeCommunicator(MPI_Comm* communicator) {
  if (*communicator != MPI_COMM_NULL && MpiRunning()) MPI_Comm_free(communicator);
  *communicator = MPI_COMM_NULL;
}

void Backoff::Pause() {
  constexpr int kSpins = 200;
  constexpr int kYields = 300;
  constexpr int kShortSleeps = 1000;
  ++turns_;
  if (turns_ < kSpins) return;
  if (turns_ < kYields) {
    std::this_thread::yield();
    return;
  }
  // The kernel adds its timer slack of 50 us. Long waits (a slow peer, a validation) need no quick answer.
  base::SystemClock().SleepFor(turns_ < kShortSleeps ? std::chrono::microseconds(10) : std::chrono::microseconds(200));
  turns_ = std::min(turns_, kShortSleeps);
}

base::Status WaitForAll(std::span<MPI_Request> requests, std::span<MPI_Status> statuses, const WaitOptions& options,
                        int* failed) {
  if (failed != nullptr) *failed = -1;
  if (requests.empty()) return {};
  std::vector<MPI_Status> own;
  if (statuses.empty()) {
    own.resize(requests.size());
    statuses = own;
  }
  Backoff backoff;
  const int count = static_cast<int>(requests.size());
  while (true) {
    int done = 0;
    const int error = MPI_Testall(count, requests.data(), &done, statuses.data());
    if (error != MPI_SUCCESS) {
      int worst = error;
      if (error == MPI_ERR_IN_STATUS) {
        for (int i = 0; i < count; ++i) {
          const int one = statuses[i].MPI_ERROR;
          if (one == MPI_SUCCESS || one == MPI_ERR_PENDING) continue;
          worst = one;
          if (failed != nullptr) *failed = i;
          break;
        }
      }
      return base::Fail(base::Code::kCommunication, MpiErrorText(worst));
    }
    if (done != 0) return {};
    if (options.meanwhile && options.meanwhile()) backoff.Reset();
    if (options.deadline != kNoDeadline && base::SystemClock().Now() >= options.deadline) {
      // Testall touches no request until all are done: take out the finished ones, so that the caller sees who is
      // missing.
      for (MPI_Request& request : requests) MPI_Test(&request, &done, MPI_STATUS_IGNORE);
      return base::Fail(base::Code::kTimeout, "timed out");
    }
    if (options.give_up != nullptr && options.give_up->load(std::memory_order_relaxed)) {
      return base::Fail(base::Code::kCancelled, "given up: this rank leaves");
    }
    backoff.Pause();
  }
}

}  // namespace belay::runtime
