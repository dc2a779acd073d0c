// Seam: messages between processes. A connection carries whole messages with, on Unix sockets, open file descriptors.
//
// Framing and its limits are in checkpoint/protocol/PROTOCOL.md; this layer knows sizes, not meanings.
// Errors: kUnavailable (cannot connect, peer gone), kTimeout, kProtocol (not a frame), kLimitExceeded (frame too
// large).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/clock.h"
#include "runtime/base/result.h"
#include "runtime/base/unique_fd.h"

namespace belay::base {

struct Message {
  std::string body;
  std::vector<UniqueFd> descriptors;  // at most kDescriptorsMax
};

inline constexpr std::size_t kDescriptorsMax = 64;

struct Peer {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::int32_t pid = 0;  // 0 where the transport cannot tell
};

class Connection {
 public:
  virtual ~Connection() = default;
  // Sends one message whole or fails; any thread, one at a time inside. Does not wait for a peer that has stopped
  // reading longer than the connection's send timeout (5 s): then kTimeout, and the connection is finished.
  virtual Status Send(const Message& message) = 0;
  // From now on Send waits for a slow peer as long as it takes; the end of the peer or Shutdown() still ends it.
  virtual void SendWithoutTimeout() {}
  // The next message; no value if the peer closed in good order between messages. One thread at a time.
  // A missing deadline waits for ever. kTimeout leaves the connection usable only if nothing had arrived yet.
  virtual Result<std::optional<Message>> Receive(std::optional<Duration> deadline) = 0;
  // Wakes a blocked Receive, which then answers as if the peer had closed. Any thread.
  virtual void Shutdown() = 0;
  // Has the peer closed its end, or died? Known here before Receive has read what it sent until then. Any thread.
  virtual bool PeerHasClosed() const = 0;
  virtual Peer PeerIdentity() const = 0;
};

class Listener {
 public:
  virtual ~Listener() = default;  // removes the address
  // The next caller; no value after Shutdown().
  virtual Result<std::optional<std::unique_ptr<Connection>>> Accept() = 0;
  virtual void Shutdown() = 0;
  // The listening socket, for TakeUpUnixListener here or in the program that takes this one's place; the address then
  // stays when this is destroyed, and callers wait in the socket's queue. Not valid where there is no socket.
  virtual UniqueFd HandOver() { return {}; }
};

class Transport {
 public:
  virtual ~Transport() = default;
  virtual Result<std::unique_ptr<Connection>> Connect(const std::string& address, Duration timeout) = 0;
  // A stale address (nobody answers) is taken over; a live one is kAlreadyExists.
  virtual Result<std::unique_ptr<Listener>> Listen(const std::string& address) = 0;
};

// Unix stream sockets; an address is a path. Lives as long as the process.
Transport& UnixTransport();

// Listens on a socket that listens at this path already. kInvalidArgument: it does not, or the path is no socket.
Result<std::unique_ptr<Listener>> TakeUpUnixListener(const std::string& path, UniqueFd socket);

// The largest message body either side accepts.
inline constexpr std::uint32_t kMessageBytesMax = 64U * 1024 * 1024;

}  // namespace belay::base
