// Collectives on memory, of any size, built from MPI messages.
//
// Why not MPI's own reductions: they choose an algorithm, and with it the order of additions, by message size and
// tuning. Here every element is added up in rank order whatever the buffer around it, so results depend on the values
// and the world alone, buckets may be cut anywhere, and half precision is rounded once. Each rank owns a part of every
// piece: the others send it theirs, it adds up, and sends the result back (two exchanges, both directions busy, the
// traffic of a ring).
//
// No MPI call moves more than `message_bytes`, so counts are unlimited. Used by one thread at a time, on a communicator
// of its own; every rank calls alike. Errors: kCommunication (MPI's words), kTimeout (which ranks are missing),
// kInvalidArgument (a peer's sizes differ). After an error the communicator is of no more use, and buffers may still be
// written to.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "runtime/comm/mpi_c.h"

#include "runtime/base/result.h"
#include "runtime/comm/mpi_library.h"
#include "runtime/comm/reduction.h"

namespace belay::runtime {

struct TransferLimits {
  std::size_t message_bytes = std::size_t{1} << 28;  // most bytes of one MPI call
  std::size_t piece_bytes = std::size_t{4} << 20;    // scratch memory of a reduction
};

struct Outgoing {
  int to;
  const void* data;
  std::size_t bytes;
};
struct Incoming {
  int from;
  void* data;
  std::size_t bytes;
};

class Transfers {
 public:
  Transfers(MPI_Comm communicator, TransferLimits limits);
  ~Transfers();
  Transfers(const Transfers&) = delete;
  Transfers& operator=(const Transfers&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  // For the operations that follow.
  void SetWait(WaitOptions options) { wait_ = std::move(options); }

  // All at once; several to or from one rank pair up in order. A rank may exchange with itself.
  base::Status Exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives);
  base::Status Broadcast(void* data, std::size_t bytes, int root);
  base::Status AllReduce(void* data, std::size_t count, Element element, Reduction reduction);
  // Only root's data change.
  base::Status Reduce(void* data, std::size_t count, Element element, Reduction reduction, int root);
  // inputs[r], of counts[r] elements, is meant for rank r; `out` may be this rank's own input.
  base::Status ReduceScatter(std::span<const void* const> inputs, std::span<const std::size_t> counts, void* out,
                             Element element, Reduction reduction);
  base::Status Barrier();

 private:
  base::Status Wait(std::span<MPI_Request> requests, std::span<const int> peers, std::span<const std::size_t> expected);
  std::byte* Scratch();

  MPI_Comm communicator_;
  TransferLimits limits_;
  WaitOptions wait_;
  int rank_ = 0;
  int size_ = 1;
  std::unique_ptr<std::byte[]> scratch_;
};

// One tensor's bytes on the way to or from another rank, as messages of at most `message_bytes` posted at once. The
// bytes must stay until it is complete.
class PointToPoint {
 public:
  static base::Result<std::unique_ptr<PointToPoint>> Send(MPI_Comm communicator, const void* data, std::size_t bytes,
                                                          int to, int tag, std::size_t message_bytes);
  // from: MPI_ANY_SOURCE takes the first that comes, and must fit into one message: of several, the later ones could
  // only be asked for once the first has told its sender, and until then another receive could take them.
  static base::Result<std::unique_ptr<PointToPoint>> Receive(MPI_Comm communicator, void* data, std::size_t bytes,
                                                             int from, int tag, std::size_t message_bytes);
  // True once complete. Any thread, one at a time.
  base::Result<bool> Test();
  int peer() const { return peer_; }  // of a receive from anybody: known once complete

 private:
  PointToPoint() = default;
  base::Status Post();

  MPI_Comm communicator_ = MPI_COMM_NULL;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t posted_ = 0;
  std::size_t message_bytes_ = 0;
  int peer_ = 0;
  int tag_ = 0;
  bool sends_ = false;
  std::vector<MPI_Request> requests_;
  std::vector<std::size_t> expected_;
};

}  // namespace belay::runtime
