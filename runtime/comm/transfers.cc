#include "runtime/comm/transfers.h"

#include <algorithm>
#include <cstring>
#include <set>

#include "runtime/base/check.h"

namespace belay::runtime {
namespace {

constexpr int kTag = 1;

base::Error WrongSize(int rank, int peer, std::size_t expected, MPI_Count got) {
  return base::Error{base::Code::kInvalidArgument,
                     base::Str("rank ", rank, " expected ", expected, " bytes of rank ", peer, " but got ", got,
                               ": the ranks' tensors must agree in size and type"),
                     nullptr};
}

}  // namespace

Transfers::Transfers(MPI_Comm communicator, TransferLimits limits) : communicator_(communicator), limits_(limits) {
  MPI_Comm_rank(communicator_, &rank_);
  MPI_Comm_size(communicator_, &size_);
  limits_.message_bytes = std::clamp<std::size_t>(limits_.message_bytes, 1, std::size_t{1} << 30);
  limits_.piece_bytes = std::max(limits_.piece_bytes, static_cast<std::size_t>(size_) * 8);
}

Transfers::~Transfers() = default;

std::byte* Transfers::Scratch() {
  if (!scratch_) scratch_.reset(new std::byte[limits_.piece_bytes]);
  return scratch_.get();
}

base::Status Transfers::Wait(std::span<MPI_Request> requests, std::span<const int> peers,
                             std::span<const std::size_t> expected) {
  std::vector<MPI_Status> statuses(requests.size());
  int failed = -1;
  auto done = WaitForAll(requests, statuses, wait_, &failed);
  if (!done) {
    // Messages still under way write to it.
    [[maybe_unused]] auto* leaked = scratch_.release();
    if (done.error().code == base::Code::kTimeout) {
      std::set<int> missing;
      for (std::size_t i = 0; i < requests.size(); ++i) {
        if (requests[i] != MPI_REQUEST_NULL) missing.insert(peers[i]);
      }
      std::string names;
      for (const int peer : missing) names += base::Str(names.empty() ? "" : ", ", peer);
      return base::Fail(base::Code::kTimeout, "timed out: nothing came from, or went to, rank ", names);
    }
    if (failed >= 0) return base::Wrap(std::move(done).error(), "with rank ", peers[failed]);
    return done;
  }
  // Receives come first; `expected` covers them.
  for (std::size_t i = 0; i < expected.size(); ++i) {
    MPI_Count got = 0;
    MPI_Get_elements_x(&statuses[i], MPI_BYTE, &got);
    if (static_cast<std::size_t>(got) != expected[i]) {
      return tl::unexpected(WrongSize(rank_, peers[i], expected[i], got));
    }
  }
  return {};
}

base::Status Transfers::Exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives) {
  std::vector<MPI_Request> requests;
  std::vector<int> peers;
  std::vector<std::size_t> expected;
  std::vector<const Outgoing*> to_self;
  std::size_t from_self = 0;
  int error = MPI_SUCCESS;
  for (const Outgoing& send : sends) {
    if (send.to == rank_) to_self.push_back(&send);
  }
  // At least one message each, even of no bytes: a peer that expects some then learns of the mistake.
  for (const Incoming& receive : receives) {
    if (receive.from == rank_) {
      BELAY_CHECK(from_self < to_self.size() && to_self[from_self]->bytes == receive.bytes, "exchange with itself");
      if (receive.bytes > 0) std::memmove(receive.data, to_self[from_self]->data, receive.bytes);
      ++from_self;
      continue;
    }
    std::size_t at = 0;
    do {
      const std::size_t bytes = std::min(limits_.message_bytes, receive.bytes - at);
      requests.push_back(MPI_REQUEST_NULL);
      peers.push_back(receive.from);
      expected.push_back(bytes);
      error = MPI_Irecv(static_cast<std::byte*>(receive.data) + at, static_cast<int>(bytes), MPI_BYTE, receive.from,
                        kTag, communicator_, &requests.back());
      at += bytes;
    } while (error == MPI_SUCCESS && at < receive.bytes);
    if (error != MPI_SUCCESS) break;
  }
  for (const Outgoing& send : sends) {
    if (error != MPI_SUCCESS) break;
    if (send.to == rank_) continue;
    std::size_t at = 0;
    do {
      const std::size_t bytes = std::min(limits_.message_bytes, send.bytes - at);
      requests.push_back(MPI_REQUEST_NULL);
      peers.push_back(send.to);
      error = MPI_Isend(static_cast<const std::byte*>(send.data) + at, static_cast<int>(bytes), MPI_BYTE, send.to, kTag,
                        communicator_, &requests.back());
      at += bytes;
    } while (error == MPI_SUCCESS && at < send.bytes);
  }
  if (error != MPI_SUCCESS) {
    [[maybe_unused]] auto* leaked = scratch_.release();
    return base::Fail(base::Code::kCommunication, "with rank ", peers.back(), ": ", MpiErrorText(error));
  }
  return Wait(requests, peers, expected);
}

base::Status Transfers::Broadcast(void* data, std::size_t bytes, int root) {
  if (size_ == 1) return {};
  for (std::size_t at = 0; at < bytes; at += limits_.message_bytes) {
    const int count = static_cast<int>(std::min(limits_.message_bytes, bytes - at));
    MPI_Request request = MPI_REQUEST_NULL;
    const int error = MPI_Ibcast(static_cast<std::byte*>(data) + at, count, MPI_BYTE, root, communicator_, &request);
    if (error != MPI_SUCCESS) return base::Fail(base::Code::kCommunication, MpiErrorText(error));
    BELAY_TRY(Wait(std::span(&request, 1), std::span(&root, 1), {}));
  }
  return {};
}

base::Status Transfers::ReduceScatter(std::span<const void* const> inputs, std::span<const std::size_t> counts,
                                      void* out, Element element, Reduction reduction) {
  const std::size_t width = ElementBytes(element);
  const std::size_t step = std::max<std::size_t>(limits_.piece_bytes / size_ / width, 1);
  const std::size_t longest = *std::max_element(counts.begin(), counts.end());
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  std::vector<const void*> values(size_);
  for (std::size_t begin = 0; begin < longest; begin += step) {
    sends.clear();
    receives.clear();
    const auto part = [&](int rank) { return counts[rank] > begin ? std::min(step, counts[rank] - begin) : 0; };
    const auto* own = static_cast<const std::byte*>(inputs[rank_]) + begin * width;
    for (int shift = 1; shift < size_; ++shift) {
      const int to = (rank_ + shift) % size_;
      const int from = (rank_ + size_ - shift) % size_;
      if (part(to) > 0) {
        sends.push_back({to, static_cast<const std::byte*>(inputs[to]) + begin * width, part(to) * width});
      }
      if (part(rank_) > 0) receives.push_back({from, Scratch() + from * step * width, part(rank_) * width});
    }
    BELAY_TRY(Exchange(sends, receives));
    if (part(rank_) == 0) continue;
    for (int rank = 0; rank < size_; ++rank) values[rank] = rank == rank_ ? own : Scratch() + rank * step * width;
    ReduceInOrder(reduction, element, values, static_cast<std::byte*>(out) + begin * width, part(rank_));
  }
  return {};
}

base::Status Transfers::AllReduce(void* data, std::size_t count, Element element, Reduction reduction) {
  return Reduce(data, count, element, reduction, -1);
}

base::Status Transfers::Reduce(void* data, std::size_t count, Element element, Reduction reduction, int root) {
  if (size_ == 1) return {};  // the value is its own sum, average, minimum, ...
  const std::size_t width = ElementBytes(element);
  const std::size_t piece = std::max<std::size_t>(limits_.piece_bytes / width, size_);
  std::vector<const void*> inputs(size_);
  std::vector<std::size_t> counts(size_);
  std::vector<Outgoing> sends;
  std::vector<Incoming> receives;
  std::unique_ptr<std::byte[]> result;  // a rank that is not root must leave its data alone
  for (std::size_t begin = 0; begin < count; begin += piece) {
    auto* at = static_cast<std::byte*>(data) + begin * width;
    const std::size_t now = std::min(piece, count - begin);
    // Few values are not worth dealing out: rank 0 (or root) adds them all up.
    const bool dealt = now * width >= 4096 && now >= static_cast<std::size_t>(size_);
    const int adder = root < 0 ? 0 : root;
    std::size_t offset = 0;
    for (int rank = 0; rank < size_; ++rank) {
      const std::size_t share =
          dealt ? now / size_ + (static_cast<std::size_t>(rank) < now % size_ ? 1 : 0) : (rank == adder ? now : 0);
      inputs[rank] = at + offset * width;
      counts[rank] = share;
      offset += share;
    }
    auto* own = const_cast<void*>(inputs[rank_]);
    if (root >= 0 && rank_ != root && counts[rank_] > 0) {
      if (!result) result.reset(new std::byte[(piece / size_ + 1) * width]);
      own = result.get();
    }
    BELAY_TRY(ReduceScatter(inputs, counts, own, element, reduction));
    sends.clear();
    receives.clear();
    for (int shift = 1; shift < size_; ++shift) {
      const int to = (rank_ + shift) % size_;
      const int from = (rank_ + size_ - shift) % size_;
      if (counts[rank_] > 0 && (root < 0 || to == root)) sends.push_back({to, own, counts[rank_] * width});
      if (counts[from] > 0 && (root < 0 || rank_ == root)) {
        receives.push_back({from, const_cast<void*>(inputs[from]), counts[from] * width});
      }
    }
    auto moved = Exchange(sends, receives);
    if (!moved) {
      [[maybe_unused]] auto* leaked = result.release();
      return moved;
    }
  }
  return {};
}

base::Status Transfers::Barrier() {
  MPI_Request request = MPI_REQUEST_NULL;
  const int error = MPI_Ibarrier(communicator_, &request);
  if (error != MPI_SUCCESS) return base::Fail(base::Code::kCommunication, MpiErrorText(error));
  auto done = WaitForAll(std::span(&request, 1), {}, wait_);
  if (!done && done.error().code == base::Code::kTimeout) {
    return base::Fail(base::Code::kTimeout, "timed out: not every rank reached the barrier");
  }
  return done;
}

base::Status PointToPoint::Post() {
  do {
    const std::size_t bytes = std::min(message_bytes_, bytes_ - posted_);
    requests_.push_back(MPI_REQUEST_NULL);
    expected_.push_back(bytes);
    const int count = static_cast<int>(bytes);
    const int error = sends_
                          ? MPI_Isend(data_ + posted_, count, MPI_BYTE, peer_, tag_, communicator_, &requests_.back())
                          : MPI_Irecv(data_ + posted_, count, MPI_BYTE, peer_, tag_, communicator_, &requests_.back());
    if (error != MPI_SUCCESS) return base::Fail(base::Code::kCommunication, MpiErrorText(error));
    posted_ += bytes;
  } while (posted_ < bytes_);
  return {};
}

base::Result<std::unique_ptr<PointToPoint>> PointToPoint::Send(MPI_Comm communicator, const void* data,
                                                               std::size_t bytes, int to, int tag,
                                                               std::size_t message_bytes) {
  std::unique_ptr<PointToPoint> message(new PointToPoint);
  message->communicator_ = communicator;
  message->data_ = const_cast<std::byte*>(static_cast<const std::byte*>(data));  // only read: sends_
  message->bytes_ = bytes;
  message->message_bytes_ = message_bytes;
  message->peer_ = to;
  message->tag_ = tag;
  message->sends_ = true;
  BELAY_TRY(message->Post());
  return message;
}

base::Result<std::unique_ptr<PointToPoint>> PointToPoint::Receive(MPI_Comm communicator, void* data, std::size_t bytes,
                                                                  int from, int tag, std::size_t message_bytes) {
  BELAY_CHECK(from != MPI_ANY_SOURCE || bytes <= message_bytes, bytes, " bytes from anybody");
  std::unique_ptr<PointToPoint> message(new PointToPoint);
  message->communicator_ = communicator;
  message->data_ = static_cast<std::byte*>(data);
  message->bytes_ = bytes;
  message->message_bytes_ = message_bytes;
  message->peer_ = from;
  message->tag_ = tag;
  BELAY_TRY(message->Post());
  return message;
}

base::Result<bool> PointToPoint::Test() {
  for (std::size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    int done = 0;
    MPI_Status status;
    const int error = MPI_Test(&requests_[i], &done, &status);
    if (error != MPI_SUCCESS) return base::Fail(base::Code::kCommunication, MpiErrorText(error));
    if (done == 0) return false;
    if (sends_) continue;
    if (peer_ == MPI_ANY_SOURCE) peer_ = status.MPI_SOURCE;
    MPI_Count got = 0;
    MPI_Get_elements_x(&status, MPI_BYTE, &got);
    if (static_cast<std::size_t>(got) != expected_[i]) {
      int rank = 0;
      MPI_Comm_rank(communicator_, &rank);
      return tl::unexpected(WrongSize(rank, peer_, expected_[i], got));
    }
  }
  return true;
}

}  // namespace belay::runtime
