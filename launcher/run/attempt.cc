#include "launcher/run/attempt.h"

#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>

#include "launcher/rank/output_lines.h"
#include "launcher/rank/rank_environment.h"
#include "launcher/run/run_folder.h"
#include "runtime/base/environment.h"
#include "runtime/base/process_marks.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::Fail;
using base::Str;

std::string Hex(std::uint64_t value) {
  char text[20];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

}  // namespace

Attempt::Attempt(Setup setup) : setup_(std::move(setup)), folder_{setup_.run_directory} {
  names_.socket = setup_.control_socket;
  names_.mark = Hex(base::RandomSeed());
  names_.scratch_directory = Str(setup_.run_folder, "/a", setup_.number);
  names_.memory_directory = MemoryFolder(setup_.run_folder, setup_.number);
}

Attempt::~Attempt() = default;

base::Status Attempt::Start(std::function<void(event::MpirunExited)> ended) {
  BELAY_TRY(base::MakeDirectories(setup_.files, folder_.path, 0700));
  BELAY_TRY(setup_.files.MakeDirectory(names_.scratch_directory, 0700));
  // Without /dev/shm Open MPI falls back to its session folder.
  if (!setup_.files.MakeDirectory(names_.memory_directory, 0700)) names_.memory_directory = names_.scratch_directory;
  BELAY_ASSIGN(const std::string shim, FindShim(setup_.files));
  auto log = setup_.files.Open(folder_.MpirunLog(), {.mode = base::OpenOptions::Mode::kCreateOrTruncate});
  // A full disk costs mpirun's words, not the training.
  if (!log) log = setup_.files.Open("/dev/null", {.mode = base::OpenOptions::Mode::kCreateOrTruncate});
  if (!log) return tl::unexpected<base::Error>(std::move(log).error());
  base::SpawnRequest request;
  request.argv = MpirunCommand({.ranks = setup_.options.ranks,
                                .shim = shim,
                                .scratch_directory = names_.scratch_directory,
                                .memory_directory = names_.memory_directory,
                                .mca = setup_.options.mca});
  // A batch system that signals a whole step or control group must not reach mpirun: it would kill its ranks within two
  // seconds, where they need the grace period, and pass SIGUSR1 and SIGUSR2 on to ranks that have had them already.
  // Open MPI unblocks signals for the ranks itself.
  request.blocked_signals = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2};
  request.environment = MpirunEnvironment(base::WholeEnvironment(), names_, base::UserId() == 0);
  request.output = base::UniqueFd(::dup((*log)->Descriptor()));
  request.error = base::UniqueFd(::dup((*log)->Descriptor()));
  if (!request.output.valid() || !request.error.valid()) return base::FailErrno(errno, "cannot duplicate a descriptor");
  auto pid = setup_.spawner.Spawn(std::move(request));
  if (!pid) {
    if (pid.error().code == Code::kNotFound) {
      return Fail(Code::kLaunchFailed,
                  "mpirun is not there: install Open MPI (Debian: apt install openmpi-bin), or put it in PATH");
    }
    return base::Wrap(std::move(pid).error(), "cannot start mpirun");
  }
  pid_ = *pid;
  waiter_ = std::jthread([this, ended = std::move(ended)] {
    const auto exit = setup_.spawner.Wait(pid_, std::nullopt);
    ended_ = true;  // its pid may be somebody else's from now on
    ended(exit && *exit ? event::MpirunExited{(*exit)->status, (*exit)->signal} : event::MpirunExited{1, 0});
  });
  return {};
}

event::CleanedUp Attempt::Clean() {
  if (pid_ > 0 && !ended_) base::IgnoreError(setup_.spawner.SignalGroup(pid_, SIGKILL), "it may be ending");
  const base::MarkedKill killed = base::KillMarkedProcesses(kAttemptVariable, names_.mark, 250);
  if (waiter_.joinable()) waiter_.join();
  for (const std::string& folder : {names_.scratch_directory, names_.memory_directory}) {
    base::IgnoreError(base::RemoveTree(setup_.files, folder), "scratch; the next boot clears it");
  }
  return {killed.killed, killed.surviving};
}

std::vector<std::string> Attempt::MpirunWords() const {
  const auto text = base::ReadWholeFile(setup_.files, folder_.MpirunLog(), 4 * 1024 * 1024);
  if (!text) return {};
  LastLines last(20);
  last.Feed(*text);
  return last.Get();
}

base::Result<std::string> FindShim(base::FileSystem& files) {
  const std::string here = base::ProgramDirectory();
  for (const std::string& path : {here + "/belay-rank", here + "/../libexec/belay/belay-rank"}) {
    if (base::Exists(files, path)) return path;
  }
  return Fail(Code::kLaunchFailed, "belay-rank is not beside this program (", here,
              "): the installation is incomplete");
}

}  // namespace belay::launcher
