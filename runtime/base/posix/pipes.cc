#include "runtime/base/pipes.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>

namespace belay::base {

Result<Pipe> MakePipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return FailErrno(errno, "cannot make a pipe");
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

Result<std::size_t> ReadSome(int fd, std::span<char> bytes) {
  while (true) {
    const ssize_t got = ::read(fd, bytes.data(), bytes.size());
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) return FailErrno(errno, "cannot read a pipe");
  }
}

Status WriteAll(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd, bytes.data(), bytes.size());
    if (put >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(put));
    } else if (errno == EAGAIN) {
      // Somebody made our stdout non-blocking (it is shared with whoever started us).
      pollfd wanted{fd, POLLOUT, 0};
      ::poll(&wanted, 1, -1);
    } else if (errno == EPIPE) {
      return Fail(Code::kUnavailable, "the reader of the output has gone");
    } else if (errno != EINTR) {
      return FailErrno(errno, "cannot write output");
    }
  }
  return {};
}

}  // namespace belay::base
