#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <span>

#include "runtime/base/file_system.h"
#include "runtime/base/frame.h"
#include "runtime/base/posix/poll.h"
#include "runtime/base/transport.h"

namespace belay::base {

namespace {

constexpr Duration kSendTimeout = std::chrono::seconds(5);
constexpr std::size_t kReadBytesAtOnce = 1024 * 1024;

Result<sockaddr_un> SocketAddress(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Fail(Code::kInvalidArgument, "the socket path \"", path, "\" is empty or longer than ",
                sizeof address.sun_path - 1, " bytes: choose another with --socket");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Result<UniqueFd> NewSocket() {
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return FailErrno(errno, "socket");
  return fd;
}

bool BrokenPipe(int error_number) {
  return error_number == EPIPE || error_number == ECONNRESET || error_number == ENOTCONN;
}

class UnixConnection final : public Connection {
 public:
  UnixConnection(UniqueFd fd, Peer peer) : fd_(std::move(fd)), peer_(peer) {}

  void SendWithoutTimeout() override { send_timeout_ = false; }
  Status Send(const Message& message) override {
    const auto header = EncodeFrameHeader(message);
    if (!header) return tl::unexpected<Error>(header.error());
    const std::scoped_lock lock(send_mutex_);
    if (broken_) return Fail(Code::kUnavailable, "the connection is closed");
    Status sent = SendFrame(*header, message);
    if (!sent) Break();  // a part of a frame may be out: nothing sensible can follow
    return sent;
  }

  Result<std::optional<Message>> Receive(std::optional<Duration> deadline) override {
    if (shut_) return std::optional<Message>();
    if (broken_) return Fail(Code::kUnavailable, "the connection is closed");
    bool started = false;
    auto received = ReceiveFrame(Deadline(deadline), started);
    if (!received && shut_) return std::optional<Message>();
    if (!received && (started || received.error().code != Code::kTimeout)) Break();
    return received;
  }

  void Shutdown() override {
    shut_ = true;
    Break();
  }
  bool PeerHasClosed() const override {
    pollfd asked{fd_.get(), POLLRDHUP, 0};
    return ::poll(&asked, 1, 0) > 0;
  }
  Peer PeerIdentity() const override { return peer_; }

 private:
  void Break() {
    broken_ = true;
    ::shutdown(fd_.get(), SHUT_RDWR);
  }

  Status SendFrame(const FrameHeaderBytes& header, const Message& message) {
    std::size_t done = 0;
    const std::size_t total = header.size() + message.body.size();
    while (done < total) {
      iovec parts[2];
      int count = 0;
      if (done < header.size()) parts[count++] = {const_cast<std::byte*>(header.data()) + done, header.size() - done};
      const std::size_t body_done = done - std::min(done, header.size());
      parts[count++] = {const_cast<char*>(message.body.data()) + body_done, message.body.size() - body_done};
      msghdr packet{};
      packet.msg_iov = parts;
      packet.msg_iovlen = static_cast<std::size_t>(count);
      alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kDescriptorsMax)] = {};
      if (done == 0) AttachDescriptors(packet, control, message.descriptors);
      const ssize_t sent = ::sendmsg(fd_.get(), &packet, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent >= 0) {
        done += static_cast<std::size_t>(sent);
        continue;
      }
      if (errno == EINTR) continue;
      if (BrokenPipe(errno)) return Fail(Code::kUnavailable, "the peer has closed the connection");
      if (errno != EAGAIN) return FailErrno(errno, "cannot send");
      pollfd wanted{fd_.get(), POLLOUT, 0};
      BELAY_ASSIGN(const bool ready,
                   PollUntil(std::span(&wanted, 1),
                             Deadline(send_timeout_ ? std::optional<Duration>(kSendTimeout) : std::nullopt)));
      if (!ready) return Fail(Code::kTimeout, "the peer has not read for 5 s");
    }
    return {};
  }

  static void AttachDescriptors(msghdr& packet, char* control, const std::vector<UniqueFd>& descriptors) {
    if (descriptors.empty()) return;
    packet.msg_control = control;
    packet.msg_controllen = CMSG_SPACE(sizeof(int) * descriptors.size());
    cmsghdr* head = CMSG_FIRSTHDR(&packet);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int) * descriptors.size());
    for (std::size_t i = 0; i < descriptors.size(); ++i) {
      const int fd = descriptors[i].get();
      std::memcpy(CMSG_DATA(head) + i * sizeof(int), &fd, sizeof fd);
    }
  }

  // Reads some bytes, at least one; 0: the peer closed. Adds descriptors that come with them; without a list they are
  // dropped by the kernel.
  Result<std::size_t> ReadSome(std::span<std::byte> bytes, std::vector<UniqueFd>* descriptors,
                               const Deadline& deadline) {
    while (true) {
      iovec part{bytes.data(), bytes.size()};
      msghdr packet{};
      packet.msg_iov = &part;
      packet.msg_iovlen = 1;
      alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int) * kDescriptorsMax)] = {};
      if (descriptors != nullptr) {
        packet.msg_control = control;
        packet.msg_controllen = sizeof control;
      }
      const ssize_t got = ::recvmsg(fd_.get(), &packet, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
      if (got >= 0) {
        if (descriptors != nullptr) {
          TakeDescriptors(packet, *descriptors);
          if ((packet.msg_flags & MSG_CTRUNC) != 0) {
            return Fail(Code::kProtocol, "descriptors were lost: more than ", kDescriptorsMax,
                        " in a message, or too many open here");
          }
        }
        return static_cast<std::size_t>(got);
      }
      if (errno == EINTR) continue;
      if (BrokenPipe(errno)) return Fail(Code::kUnavailable, "the peer has reset the connection");
      if (errno != EAGAIN) return FailErrno(errno, "cannot receive");
      pollfd wanted{fd_.get(), POLLIN, 0};
      BELAY_ASSIGN(const bool ready, PollUntil(std::span(&wanted, 1), deadline));
      if (!ready) return Fail(Code::kTimeout, "no message came in time");
    }
  }

  static void TakeDescriptors(msghdr& packet, std::vector<UniqueFd>& descriptors) {
    for (cmsghdr* head = CMSG_FIRSTHDR(&packet); head != nullptr; head = CMSG_NXTHDR(&packet, head)) {
      if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
      const std::size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(head) + i * sizeof(int), sizeof fd);
        descriptors.emplace_back(fd);
      }
    }
  }

  Result<std::optional<Message>> ReceiveFrame(const Deadline& deadline, bool& started) {
    Message message;
    FrameHeaderBytes bytes{};
    for (std::size_t done = 0; done < bytes.size();) {
      BELAY_ASSIGN(const std::size_t got, ReadSome(std::span(bytes).subspan(done), &message.descriptors, deadline));
      if (got == 0 && done == 0) return std::optional<Message>();
      if (got == 0) return Fail(Code::kUnavailable, "the peer closed the connection within a message");
      started = true;
      done += got;
    }
    BELAY_ASSIGN(const FrameHeader header, DecodeFrameHeader(bytes));
    if (header.descriptor_count != message.descriptors.size()) {
      return Fail(Code::kProtocol, "a message of ", header.descriptor_count, " descriptors came with ",
                  message.descriptors.size());
    }
    // Grows with what really arrives: a header alone cannot make us allocate its whole claim.
    for (std::size_t done = 0; done < header.body_bytes;) {
      if (done == message.body.size()) {
        message.body.resize(std::min<std::size_t>(header.body_bytes, std::max(2 * done, kReadBytesAtOnce)));
      }
      BELAY_ASSIGN(const std::size_t got,
                   ReadSome(std::as_writable_bytes(std::span(message.body).subspan(done)), nullptr, deadline));
      if (got == 0) return Fail(Code::kUnavailable, "the peer closed the connection within a message");
      done += got;
    }
    BELAY_TRY(CheckFrameBody(header, message.body));
    return std::optional<Message>(std::move(message));
  }

  const UniqueFd fd_;
  const Peer peer_;
  std::mutex send_mutex_;
  std::atomic<bool> send_timeout_{true};
  std::atomic<bool> broken_{false};
  std::atomic<bool> shut_{false};
};

Result<std::unique_ptr<Connection>> MakeConnection(UniqueFd fd) {
  ucred who{};
  socklen_t size = sizeof who;
  if (::getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) {
    return FailErrno(errno, "cannot ask who the peer is");
  }
  return std::make_unique<UnixConnection>(std::move(fd), Peer{who.uid, who.gid, who.pid});
}

class UnixListener final : public Listener {
 public:
  UnixListener(std::string path, UniqueFd fd, UniqueFd wake)
      : path_(std::move(path)), fd_(std::move(fd)), wake_(std::move(wake)) {
    struct stat info {};
    if (::stat(path_.c_str(), &info) == 0) inode_ = info.st_ino;
  }
  ~UnixListener() override {
    if (handed_over_) return;
    // Only our own name: somebody may have taken the address over.
    struct stat info {};
    if (::stat(path_.c_str(), &info) == 0 && info.st_ino == inode_) ::unlink(path_.c_str());
  }

  Result<std::optional<std::unique_ptr<Connection>>> Accept() override {
    while (true) {
      pollfd wanted[] = {{wake_.get(), POLLIN, 0}, {fd_.get(), POLLIN, 0}};
      BELAY_TRY(PollUntil(wanted, Deadline(std::nullopt)));
      if (wanted[0].revents != 0) return std::optional<std::unique_ptr<Connection>>();
      UniqueFd peer(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (peer.valid()) {
        BELAY_ASSIGN(auto connection, MakeConnection(std::move(peer)));
        return std::optional(std::move(connection));
      }
      if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED) {
        return FailErrno(errno, "cannot accept on " + path_);
      }
    }
  }

  void Shutdown() override {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
  }

  UniqueFd HandOver() override {
    UniqueFd socket = fd_.Duplicate();
    handed_over_ = socket.valid();
    return socket;
  }

 private:
  const std::string path_;
  const UniqueFd fd_, wake_;
  ino_t inode_ = 0;
  bool handed_over_ = false;
};

Result<std::unique_ptr<Listener>> MakeListener(const std::string& path, UniqueFd fd) {
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return FailErrno(errno, "eventfd");
  ::fcntl(fd.get(), F_SETFL, O_NONBLOCK);
  return std::make_unique<UnixListener>(path, std::move(fd), std::move(wake));
}

class UnixTransportClass final : public Transport {
 public:
  Result<std::unique_ptr<Connection>> Connect(const std::string& path, Duration timeout) override {
    BELAY_ASSIGN(const sockaddr_un address, SocketAddress(path));
    BELAY_ASSIGN(UniqueFd fd, NewSocket());
    // connect(2) on a Unix socket waits only for room in the listener's queue, for as long as SO_SNDTIMEO says; zero
    // would mean for ever.
    const auto us = std::max<std::int64_t>(std::chrono::duration_cast<std::chrono::microseconds>(timeout).count(), 1);
    const timeval limit{us / 1'000'000, us % 1'000'000};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    while (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) return Fail(Code::kTimeout, path, " did not take the connection in time");
      Error error = ErrnoError(errno, "cannot connect to " + path);
      if (error.code == Code::kNotFound || error.code == Code::kIo) error.code = Code::kUnavailable;
      return tl::unexpected(std::move(error));
    }
    return MakeConnection(std::move(fd));
  }

  Result<std::unique_ptr<Listener>> Listen(const std::string& path) override {
    BELAY_ASSIGN(const sockaddr_un address, SocketAddress(path));
    BELAY_ASSIGN(UniqueFd fd, NewSocket());
    // Of two that find the same stale socket, the second must not remove the first one's fresh one.
    const UniqueFd folder(::open(ParentPath(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder.valid()) return FailErrno(errno, "cannot open the folder of " + path);
    while (::flock(folder.get(), LOCK_EX) != 0) {
      if (errno != EINTR) return FailErrno(errno, "cannot lock the folder of " + path);
    }
    const auto* name = reinterpret_cast<const sockaddr*>(&address);
    // Root serves every user and decides by who the peer is; others serve themselves.
    ::fchmod(fd.get(), ::geteuid() == 0 ? 0666 : 0600);
    if (::bind(fd.get(), name, sizeof address) != 0) {
      if (errno != EADDRINUSE) return FailErrno(errno, "cannot listen on " + path);
      BELAY_TRY(RemoveStale(path));
      if (::bind(fd.get(), name, sizeof address) != 0) return FailErrno(errno, "cannot listen on " + path);
    }
    ::chmod(path.c_str(), ::geteuid() == 0 ? 0666 : 0600);  // the umask had its say
    if (::listen(fd.get(), SOMAXCONN) != 0) return FailErrno(errno, "cannot listen on " + path);
    return MakeListener(path, std::move(fd));
  }

 private:
  Status RemoveStale(const std::string& path) {
    struct stat info {};
    if (::lstat(path.c_str(), &info) == 0 && !S_ISSOCK(info.st_mode)) {
      return Fail(Code::kAlreadyExists, path, " exists and is not a socket");
    }
    const auto answer = Connect(path, std::chrono::seconds(1));
    // Too busy to answer is alive too.
    if (answer || answer.error().code != Code::kUnavailable) {
      return Fail(Code::kAlreadyExists, "somebody listens on ", path);
    }
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return FailErrno(errno, "cannot remove the stale " + path);
    return {};
  }
};

}  // namespace

Result<std::unique_ptr<Listener>> TakeUpUnixListener(const std::string& path, UniqueFd socket) {
  int listens = 0;
  socklen_t size = sizeof listens;
  sockaddr_un name{};
  socklen_t name_size = sizeof name;
  struct stat info {};
  const bool fits = ::getsockopt(socket.get(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens == 1 &&
                    ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&name), &name_size) == 0 &&
                    name.sun_family == AF_UNIX && path == name.sun_path && ::lstat(path.c_str(), &info) == 0 &&
                    S_ISSOCK(info.st_mode);
  if (!fits) return Fail(Code::kInvalidArgument, "the socket handed over does not listen on ", path);
  return MakeListener(path, std::move(socket));
}

Transport& UnixTransport() {
  static UnixTransportClass transport;
  return transport;
}

}  // namespace belay::base
