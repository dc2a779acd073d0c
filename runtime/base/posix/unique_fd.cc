#include "runtime/base/unique_fd.h"

#include <fcntl.h>
#include <unistd.h>

namespace belay::base {

void UniqueFd::Reset(int fd) {
  // Linux releases the number even where close(2) says EINTR; errors that matter are asked for by File::Close.
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

UniqueFd UniqueFd::Duplicate() const { return UniqueFd(::fcntl(fd_, F_DUPFD_CLOEXEC, 3)); }

}  // namespace belay::base
