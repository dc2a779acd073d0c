#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <sstream>
#include <string_view>

#include "runtime/base/file_system.h"
#include "runtime/base/posix/poll.h"
#include "runtime/base/process_spawner.h"
#include "runtime/base/units.h"

namespace belay::base {

namespace {

// Everything the child needs, made before the fork: after it only async-signal-safe calls are allowed.
struct Plan {
  std::vector<std::string> candidates;  // of the program's path, in PATH's order
  std::vector<std::string> strings;
  std::vector<char*> argv, envp;
  std::array<UniqueFd, 3> stdio;  // above 2, so that placing one cannot overwrite another
  std::vector<int> inherited;
  std::string working_directory;
  bool dies_with_parent = true;
  bool new_session = false;
  sigset_t blocked;
  pid_t parent = 0;
  UniqueFd failure;  // the child's end: errno of what failed
};

enum class Stage : int { kSetup, kDirectory, kExec };
struct Failure {
  Stage stage;
  int error;
};

[[noreturn]] void FailChild(const Plan& plan, Stage stage) {
  const Failure failure{stage, errno};
  [[maybe_unused]] const ssize_t told = ::write(plan.failure.get(), &failure, sizeof failure);
  ::_exit(127);
}

void CloseAllButStdioOnExec() {
  if (::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) == 0) return;
  const long limit = ::sysconf(_SC_OPEN_MAX);
  for (int fd = 3; fd < (limit > 0 && limit < 65536 ? limit : 65536); ++fd) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

// Runs in the child; all signals are blocked.
[[noreturn]] void RunChild(const Plan& plan) {
  if (plan.new_session ? ::setsid() < 0 : ::setpgid(0, 0) != 0) FailChild(plan, Stage::kSetup);
  if (plan.dies_with_parent) {
    if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) FailChild(plan, Stage::kSetup);
    if (::getppid() != plan.parent) ::_exit(127);  // died between fork and prctl: nobody will tell us any more
  }
  for (int target = 0; target < 3; ++target) {
    const int source = plan.stdio[static_cast<std::size_t>(target)].get();
    if (source >= 0 && ::dup2(source, target) < 0) FailChild(plan, Stage::kSetup);
  }
  CloseAllButStdioOnExec();
  for (const int fd : plan.inherited) {
    if (::fcntl(fd, F_SETFD, 0) != 0) FailChild(plan, Stage::kSetup);
  }
  if (!plan.working_directory.empty() && ::chdir(plan.working_directory.c_str()) != 0) {
    FailChild(plan, Stage::kDirectory);
  }
  // Ignored signals (our SIGPIPE) and blocked ones would be inherited through exec.
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) ::sigaction(signal, &standard, nullptr);
  ::pthread_sigmask(SIG_SETMASK, &plan.blocked, nullptr);

  int worst = ENOENT;
  for (const std::string& path : plan.candidates) {
    ::execve(path.c_str(), plan.argv.data(), plan.envp.data());
    // As the shell does: go on looking, but remember that something was there.
    if (errno == EACCES) worst = EACCES;
    if (errno != EACCES && errno != ENOENT && errno != ENOTDIR) FailChild(plan, Stage::kExec);
  }
  errno = worst;
  FailChild(plan, Stage::kExec);
}

std::vector<std::string> Candidates(const std::string& program, const std::map<std::string, std::string>& environment) {
  if (program.find('/') != std::string::npos) return {program};
  const auto found = environment.find("PATH");
  std::string_view folders =
      found != environment.end() ? std::string_view(found->second) : "/usr/local/bin:/usr/bin:/bin";
  std::vector<std::string> paths;
  while (true) {
    const std::size_t colon = folders.find(':');
    const std::string_view folder = folders.substr(0, colon);
    paths.push_back(folder.empty() ? "./" + program : Str(folder, '/', program));
    if (colon == std::string_view::npos) return paths;
    folders.remove_prefix(colon + 1);
  }
}

// Moves a descriptor above stdio; keeps an invalid one.
Result<UniqueFd> Lifted(UniqueFd fd) {
  if (!fd.valid() || fd.get() > 2) return fd;
  UniqueFd lifted(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
  if (!lifted.valid()) return FailErrno(errno, "cannot duplicate a descriptor");
  return lifted;
}

Result<Plan> MakePlan(SpawnRequest request) {
  if (request.argv.empty() || request.argv[0].empty()) return Fail(Code::kInvalidArgument, "no program to start");
  Plan plan;
  plan.candidates = Candidates(request.argv[0], request.environment);
  plan.strings = std::move(request.argv);
  const std::size_t arguments = plan.strings.size();
  for (const auto& [name, value] : request.environment) plan.strings.push_back(name + "=" + value);
  for (std::size_t i = 0; i < plan.strings.size(); ++i) {
    (i < arguments ? plan.argv : plan.envp).push_back(plan.strings[i].data());
  }
  plan.argv.push_back(nullptr);
  plan.envp.push_back(nullptr);
  if (!request.input.valid()) {
    request.input.Reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!request.input.valid()) return FailErrno(errno, "cannot open /dev/null");
  }
  BELAY_ASSIGN(plan.stdio[0], Lifted(std::move(request.input)));
  BELAY_ASSIGN(plan.stdio[1], Lifted(std::move(request.output)));
  BELAY_ASSIGN(plan.stdio[2], Lifted(std::move(request.error)));
  plan.inherited = std::move(request.inherited);
  plan.working_directory = std::move(request.working_directory);
  plan.dies_with_parent = request.dies_with_parent;
  plan.new_session = request.new_session;
  sigemptyset(&plan.blocked);
  for (const int signal : request.blocked_signals) sigaddset(&plan.blocked, signal);
  plan.parent = ::getpid();
  return plan;
}

ExitEvent EventOf(pid_t pid, int status) {
  if (WIFSIGNALED(status)) return {pid, 128 + WTERMSIG(status), WTERMSIG(status)};
  return {pid, WEXITSTATUS(status), 0};
}

// The children of every thread of this process, as the kernel lists them.
std::vector<pid_t> Children() {
  std::vector<pid_t> children;
  FileSystem& files = PosixFileSystem();
  const auto threads = files.List("/proc/self/task");
  if (!threads) return children;
  for (const std::string& thread : *threads) {
    const auto text = ReadWholeFile(files, "/proc/self/task/" + thread + "/children", kMiB);
    if (!text) continue;  // the thread has ended meanwhile: its children moved to another one
    std::istringstream words(*text);
    for (pid_t pid = 0; words >> pid;) children.push_back(pid);
  }
  return children;
}

class RealProcessSpawner final : public ProcessSpawner {
 public:
  Result<pid_t> Spawn(SpawnRequest request) override {
    BELAY_ASSIGN(Plan plan, MakePlan(std::move(request)));
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return FailErrno(errno, "cannot make a pipe");
    const UniqueFd reading(ends[0]);
    BELAY_ASSIGN(plan.failure, Lifted(UniqueFd(ends[1])));

    // A handler of ours must not run in the child.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    const pid_t pid = ::fork();
    const int fork_error = errno;
    if (pid == 0) RunChild(plan);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0) return FailErrno(fork_error, "cannot fork");
    plan.failure.Reset();

    // Ends without a byte once exec has closed the other end.
    Failure failure{};
    ssize_t got = 0;
    do {
      got = ::read(reading.get(), &failure, sizeof failure);
    } while (got < 0 && errno == EINTR);
    if (got == 0) return pid;
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    if (got != sizeof failure) return Fail(Code::kInternal, "the start of ", plan.strings[0], " told nothing");
    const std::string what = failure.stage == Stage::kDirectory
                                 ? Str("cannot start ", plan.strings[0], " in ", plan.working_directory)
                                 : Str("cannot start ", plan.strings[0]);
    return FailErrno(failure.error, what);
  }

  Status SignalGroup(pid_t pid, int signal) override {
    // -1 and 0 would mean everybody and ourselves.
    if (pid <= 1) return Fail(Code::kInvalidArgument, "no process group ", pid);
    if (::kill(-pid, signal) == 0 || errno == ESRCH) return {};
    return FailErrno(errno, Str("cannot signal the process group ", pid));
  }

  Result<std::optional<ExitEvent>> Wait(pid_t pid, std::optional<Duration> deadline) override {
    if (pid <= 0) return Fail(Code::kInvalidArgument, "no process ", pid);
    const Deadline until(deadline);
    UniqueFd handle;
    while (true) {
      int status = 0;
      const pid_t reaped = ::waitpid(pid, &status, deadline ? WNOHANG : 0);
      if (reaped == pid) return std::optional(EventOf(pid, status));
      if (reaped < 0 && errno == ECHILD)
        return Fail(Code::kNotFound, "process ", pid, " is no child, or was waited for");
      if (reaped < 0 && errno != EINTR) return FailErrno(errno, Str("cannot wait for process ", pid));
      if (reaped < 0 || !deadline) continue;
      if (*until.Left() == Duration::zero()) return std::optional<ExitEvent>();
      // Not reaped yet, so the number is still this child's.
      if (!handle.valid()) handle.Reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
      if (handle.valid()) {
        pollfd wanted{handle.get(), POLLIN, 0};
        BELAY_TRY(PollUntil(std::span(&wanted, 1), until));
      } else {
        SystemClock().SleepFor(std::min<Duration>(*until.Left(), std::chrono::milliseconds(5)));
      }
    }
  }
};

}  // namespace

ProcessSpawner& PosixProcessSpawner() {
  static RealProcessSpawner spawner;
  return spawner;
}

Error ReplaceProcess(const std::string& program, std::vector<std::string> argv, const std::vector<int>& inherited) {
  std::vector<char*> words;
  for (std::string& word : argv) words.push_back(word.data());
  words.push_back(nullptr);
  CloseAllButStdioOnExec();
  for (const int fd : inherited) ::fcntl(fd, F_SETFD, 0);
  ::execv(program.c_str(), words.data());
  const int error = errno;
  for (const int fd : inherited) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return ErrnoError(error, "cannot start " + program);
}

Result<UniqueFd> OwnInherited(int number) {
  if (number <= 2 || ::fcntl(number, F_SETFD, FD_CLOEXEC) != 0) {
    return Fail(Code::kInvalidArgument, "no descriptor ", number, " was inherited");
  }
  return UniqueFd(number);
}

void CloseInherited() {
  if (::close_range(3, ~0U, 0) == 0) return;
  const long limit = ::sysconf(_SC_OPEN_MAX);
  for (int fd = 3; fd < (limit > 0 && limit < 65536 ? limit : 65536); ++fd) ::close(fd);
}

Status AdoptOrphans() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1) != 0) return FailErrno(errno, "cannot become a subreaper");
  return {};
}

std::size_t KillAllChildren(Duration patience) {
  const SteadyTime until = SystemClock().Now() + patience;
  std::size_t count = 0;
  while (true) {
    // A killed child's own children come to us in turn, so look again until there are none.
    siginfo_t info{};
    const int waited = ::waitid(P_ALL, 0, &info, WEXITED | WNOHANG);
    if (waited != 0 && errno == EINTR) continue;
    if (waited != 0) return count;
    if (info.si_pid != 0) {
      ++count;
      continue;
    }
    const std::vector<pid_t> children = Children();
    if (children.empty()) return count;
    if (SystemClock().Now() >= until) return count;
    for (const pid_t child : children) ::kill(child, SIGKILL);
    SystemClock().SleepFor(std::chrono::milliseconds(1));
  }
}

}  // namespace belay::base
