#include "runtime/base/host.h"

#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <iterator>

#include "runtime/base/unique_fd.h"

namespace belay::base {

namespace {

bool SetAllowedCores(const std::vector<int>& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores) CPU_SET(core, &set);
  return ::sched_setaffinity(0, sizeof set, &set) == 0;
}

}  // namespace

Result<std::uint16_t> FreeTcpPort() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return FailErrno(errno, "cannot make a TCP socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  socklen_t size = sizeof address;
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return FailErrno(errno, "cannot find a free TCP port");
  }
  return ntohs(address.sin_port);
}

int CoreCount() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (::sched_getaffinity(0, sizeof cores, &cores) == 0 && CPU_COUNT(&cores) > 0) return CPU_COUNT(&cores);
  const long online = ::sysconf(_SC_NPROCESSORS_ONLN);
  return online > 0 ? static_cast<int>(online) : 1;
}

std::vector<int> AllowedCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cores;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

StayOnCores::StayOnCores(const std::vector<int>& cores) {
  std::vector<int> allowed = AllowedCores();
  std::vector<int> both;
  std::copy_if(allowed.begin(), allowed.end(), std::back_inserter(both),
               [&](int core) { return std::find(cores.begin(), cores.end(), core) != cores.end(); });
  if (!both.empty() && both != allowed && SetAllowedCores(both)) before_ = std::move(allowed);
}

StayOnCores::~StayOnCores() {
  if (!before_.empty()) SetAllowedCores(before_);
}

void LetOthersGoFirst() {
  // ioprio_set(2) has no wrapper in libc: IOPRIO_WHO_PROCESS of the calling thread, class 3 (idle) above bit 13.
  ::syscall(SYS_ioprio_set, 1, 0, 3 << 13);
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), 19);
}

std::optional<int> TerminalColumns(int fd) {
  if (::isatty(fd) == 0) return std::nullopt;
  winsize size{};
  return ::ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace belay::base
