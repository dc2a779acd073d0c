#include "runtime/base/signals.h"

#include <pthread.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cerrno>

#include "runtime/base/posix/poll.h"

namespace belay::base {

Result<SignalWatcher> SignalWatcher::Create(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) {
    // Ignored by whoever started us (nohup, a shell's background job): blocking it would bring it back.
    struct sigaction inherited {};
    if (::sigaction(signal, nullptr, &inherited) == 0 && inherited.sa_handler == SIG_IGN) continue;
    sigaddset(&set, signal);
  }
  if (const int error = ::pthread_sigmask(SIG_BLOCK, &set, nullptr); error != 0) {
    return FailErrno(error, "cannot block signals");
  }
  UniqueFd descriptor(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!descriptor.valid()) return FailErrno(errno, "signalfd");
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return FailErrno(errno, "eventfd");
  return SignalWatcher(std::move(descriptor), std::move(wake));
}

Result<std::optional<int>> SignalWatcher::Next(std::optional<Duration> deadline) {
  const Deadline until(deadline);
  while (true) {
    std::uint64_t count = 0;
    if (::read(wake_.get(), &count, sizeof count) == sizeof count) return std::optional<int>();
    signalfd_siginfo info{};
    const ssize_t got = ::read(signals_.get(), &info, sizeof info);
    if (got == sizeof info) return std::optional<int>(static_cast<int>(info.ssi_signo));
    if (got < 0 && errno != EAGAIN && errno != EINTR) return FailErrno(errno, "signalfd read");
    pollfd wanted[] = {{signals_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}};
    BELAY_ASSIGN(const bool ready, PollUntil(wanted, until));
    if (!ready) return std::optional<int>();
  }
}

void SignalWatcher::Interrupt() {
  const std::uint64_t one = 1;
  // Fails only when the counter is full, and then Next is awake already.
  [[maybe_unused]] const ssize_t written = ::write(wake_.get(), &one, sizeof one);
}

}  // namespace belay::base
