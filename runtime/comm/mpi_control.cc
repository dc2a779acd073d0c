#include "runtime/comm/mpi_control.h"

#include <algorithm>
#include <limits>
#include <span>

#include "runtime/comm/mpi_library.h"

namespace belay::runtime {
namespace {

constexpr std::size_t kPieceBytes = 256U << 20;  // far below MPI's int counts

}  // namespace

base::Result<std::unique_ptr<MpiControl>> MpiControl::Make(MPI_Comm from) {
  BELAY_ASSIGN(MPI_Comm copy, CopyCommunicator(from));
  return std::unique_ptr<MpiControl>(new MpiControl(copy));
}

MpiControl::MpiControl(MPI_Comm communicator) : communicator_(communicator) {
  MPI_Comm_rank(communicator_, &rank_);
  MPI_Comm_size(communicator_, &size_);
}

MpiControl::~MpiControl() { FreeCommunicator(&communicator_); }

base::Status MpiControl::Wait(int error, MPI_Request request, std::string_view what) const {
  if (error != MPI_SUCCESS) {
    return base::Fail(base::Code::kCommunication, what, " of rank ", rank_, " failed: ", MpiErrorText(error));
  }
  auto done = WaitForAll(std::span(&request, 1));
  if (!done) return base::Wrap(std::move(done).error(), what, " of rank ", rank_, " failed");
  return {};
}

base::Status MpiControl::Broadcast(std::string* bytes, int root) {
  MPI_Request request = MPI_REQUEST_NULL;
  std::uint64_t size = bytes->size();
  int error = MPI_Ibcast(&size, 1, MPI_UINT64_T, root, communicator_, &request);
  BELAY_TRY(Wait(error, request, "control broadcast"));
  bytes->resize(size);
  for (std::size_t at = 0; at < size; at += kPieceBytes) {
    const int count = static_cast<int>(std::min(kPieceBytes, size - at));
    error = MPI_Ibcast(bytes->data() + at, count, MPI_BYTE, root, communicator_, &request);
    BELAY_TRY(Wait(error, request, "control broadcast"));
  }
  return {};
}

base::Result<std::vector<std::string>> MpiControl::AllGather(std::string_view bytes) {
  MPI_Request request = MPI_REQUEST_NULL;
  const std::uint64_t size = bytes.size();
  std::vector<std::uint64_t> sizes(size_);
  int error = MPI_Iallgather(&size, 1, MPI_UINT64_T, sizes.data(), 1, MPI_UINT64_T, communicator_, &request);
  BELAY_TRY(Wait(error, request, "control all-gather"));
  std::vector<int> counts(size_);
  std::vector<int> offsets(size_);
  std::uint64_t total = 0;
  for (int i = 0; i < size_; ++i) {
    offsets[i] = static_cast<int>(std::min<std::uint64_t>(total, std::numeric_limits<int>::max()));
    total += sizes[i];
    counts[i] = static_cast<int>(sizes[i]);
  }
  // Every rank sees the same total, so all refuse alike.
  if (total > std::numeric_limits<int>::max()) {
    return base::Fail(base::Code::kLimitExceeded, "control all-gather of ", total, " bytes: 2 GiB is the limit");
  }
  std::string all(total, '\0');
  error = MPI_Iallgatherv(bytes.data(), static_cast<int>(size), MPI_BYTE, all.data(), counts.data(), offsets.data(),
                          MPI_BYTE, communicator_, &request);
  BELAY_TRY(Wait(error, request, "control all-gather"));
  std::vector<std::string> parts;
  parts.reserve(size_);
  for (int i = 0; i < size_; ++i) parts.push_back(all.substr(offsets[i], sizes[i]));
  return parts;
}

base::Result<std::int64_t> MpiControl::AllReduce(std::int64_t value, Extreme extreme) {
  MPI_Request request = MPI_REQUEST_NULL;
  std::int64_t result = value;
  const int error = MPI_Iallreduce(&value, &result, 1, MPI_INT64_T, extreme == Extreme::kMin ? MPI_MIN : MPI_MAX,
                                   communicator_, &request);
  BELAY_TRY(Wait(error, request, "control all-reduce"));
  return result;
}

base::Status MpiControl::Barrier() {
  MPI_Request request = MPI_REQUEST_NULL;
  const int error = MPI_Ibarrier(communicator_, &request);
  return Wait(error, request, "barrier");
}

}  // namespace belay::runtime
