#include "checkpoint/client/locate.h"

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "checkpoint/format/digest.h"
#include "runtime/base/environment.h"

namespace belay::checkpoint {

using base::Code;

namespace {

constexpr std::uint64_t kLogTailBytes = 1500;
constexpr auto kConnectTimeout = std::chrono::seconds(5);
constexpr auto kRetryPause = std::chrono::milliseconds(10);

std::optional<std::string> FlagOrEnvironment(const std::optional<std::string>& flag, const char* variable) {
  if (flag) return flag;
  auto value = base::GetEnvironment(variable);
  return value && !value->empty() ? value : std::nullopt;
}

std::string Absolute(std::string path) {
  if (!path.starts_with('/')) path = base::CurrentDirectory() + "/" + path;
  std::vector<std::string> parts;  // without "." and "..": the text names the socket, so it must be one text a folder
  for (std::size_t at = 0; at < path.size();) {
    const std::size_t end = std::min(path.find('/', at), path.size());
    const std::string part = path.substr(at, end - at);
    if (part == ".." && !parts.empty()) parts.pop_back();
    if (!part.empty() && part != "." && part != "..") parts.push_back(part);
    at = end + 1;
  }
  std::string clean;
  for (const std::string& part : parts) clean += "/" + part;
  return clean.empty() ? "/" : clean;
}

// Our own folder, that nobody else may write to: whoever can, could put his own daemon there.
base::Status PrepareSocketFolder(base::FileSystem& files, const std::string& folder) {
  if (auto made = files.MakeDirectory(folder, 0700); !made && made.error().code != Code::kAlreadyExists) {
    return base::Wrap(made.error(), "cannot make a folder for belayd's socket");
  }
  BELAY_ASSIGN(const base::FileInfo info, files.Stat(folder));
  if (!info.is_directory || info.owner_uid != base::UserId() || (info.permissions & 0022) != 0) {
    return base::Fail(Code::kPermissionDenied, folder,
                      " must be a folder of yours that only you can write to (mode 0700)");
  }
  return {};
}

struct Candidates {
  std::string data_dir;
  std::string private_socket;        // where one may be started; empty if a socket was named
  std::vector<std::string> sockets;  // to be tried, in order
};

base::Result<Candidates> FindCandidates(const LocateRequest& request) {
  Candidates found;
  BELAY_ASSIGN(found.data_dir, ResolveDataDirectory(request.data_dir));
  if (const auto named = FlagOrEnvironment(request.socket, "BELAY_SOCKET")) {
    found.sockets.push_back(*named);
    return found;
  }
  BELAY_ASSIGN(found.private_socket, PrivateSocketPath(found.data_dir));
  found.sockets.push_back(found.private_socket);
  if (!FlagOrEnvironment(request.data_dir, "BELAY_DATA_DIR")) found.sockets.emplace_back(kSystemSocket);
  return found;
}

base::Result<Located> TryConnect(const Candidates& candidates, const LocateRequest& request, LocateSeams seams) {
  std::string tried;
  for (const std::string& socket : candidates.sockets) {
    auto client = Client::Connect(seams.transport, socket, request.program, kConnectTimeout);
    if (client) {
      Located located{*std::move(client), socket, candidates.data_dir, false, 0};
      // A daemon found by its socket alone may serve another folder than the rules would choose.
      if (socket != candidates.private_socket) {
        BELAY_ASSIGN(const DaemonReport report, located.client->GetDaemonStatus());
        located.data_dir = report.data_dir;
      }
      return located;
    }
    if (client.error().code != Code::kUnavailable) return tl::unexpected(client.error());
    tried += (tried.empty() ? "" : ", ") + socket;
  }
  return base::Fail(Code::kUnavailable, "no belayd answers (tried ", tried, ")");
}

std::string LogTail(base::FileSystem& files, const std::string& data_dir) {
  const std::string path = data_dir + "/.belayd/belayd.log";
  const auto read = [&]() -> base::Result<std::string> {
    BELAY_ASSIGN(const auto file, files.Open(path, {}));
    BELAY_ASSIGN(const std::uint64_t size, file->Size());
    const std::uint64_t start = size > kLogTailBytes ? size - kLogTailBytes : 0;
    std::string text(size - start, '\0');
    BELAY_ASSIGN(const std::size_t got, file->ReadAt(start, std::as_writable_bytes(std::span(text))));
    text.resize(got);
    if (start != 0) text.erase(0, text.find('\n') + 1);
    return text;
  };
  const auto tail = read();
  return tail && !tail->empty() ? base::Str("; the end of ", path, ":\n", *tail)
                                : base::Str("; it left no log in ", path);
}

std::string BelaydProgram(base::FileSystem& files) {
  const std::string beside = base::ProgramDirectory() + "/belayd";
  return base::Exists(files, beside) ? beside : "belayd";  // else by PATH
}

base::Result<pid_t> StartPrivate(const Candidates& candidates, LocateSeams seams) {
  base::SpawnRequest spawn;
  spawn.argv = {BelaydProgram(seams.files), "--private", "--data-dir",
                candidates.data_dir,        "--socket",  candidates.private_socket};
  spawn.environment = base::WholeEnvironment();
  spawn.working_directory = "/";
  // Its own words go to its log; what it cannot log it says by its exit status.
  BELAY_ASSIGN(auto null_out, seams.files.Open("/dev/null", {.mode = base::OpenOptions::Mode::kReadWrite}));
  const auto copy = [&] {
    base::UniqueFd borrowed(null_out->Descriptor());
    base::UniqueFd own = borrowed.Duplicate();
    static_cast<void>(borrowed.Release());  // it stays the file's
    return own;
  };
  spawn.output = copy();
  spawn.error = copy();
  spawn.dies_with_parent = false;
  spawn.new_session = true;
  auto pid = seams.spawner.Spawn(std::move(spawn));
  if (!pid) return base::Wrap(pid.error(), "cannot start belayd");
  return *pid;
}

}  // namespace

LocateSeams RealSeams() {
  return {base::UnixTransport(), base::PosixFileSystem(), base::PosixProcessSpawner(), base::SystemClock()};
}

base::Result<std::string> ResolveDataDirectory(const std::optional<std::string>& flag) {
  if (flag && flag->empty()) return base::Fail(Code::kInvalidArgument, "--data-dir is empty");
  if (const auto named = FlagOrEnvironment(flag, "BELAY_DATA_DIR")) return Absolute(*named);
  if (const auto xdg = FlagOrEnvironment(std::nullopt, "XDG_DATA_HOME")) return Absolute(*xdg + "/belay");
  return Absolute(base::HomeDirectory() + "/.local/share/belay");
}

base::Result<std::string> PrivateSocketPath(const std::string& data_dir) {
  const auto runtime = FlagOrEnvironment(std::nullopt, "XDG_RUNTIME_DIR");
  base::FileSystem& files = base::PosixFileSystem();
  std::string folder = runtime ? Absolute(*runtime) + "/belay" : "";
  // A runtime folder that is not there (a container with the variable handed in) is as good as none.
  if (!runtime || !base::Exists(files, Absolute(*runtime))) folder = base::Str("/tmp/belay-", base::UserId());
  BELAY_TRY(PrepareSocketFolder(files, folder));
  return folder + "/" + Sha256Hex(std::string_view(data_dir)).substr(0, 16) + ".sock";
}

base::Result<Located> ConnectToDaemon(const LocateRequest& request, LocateSeams seams) {
  BELAY_ASSIGN(const Candidates candidates, FindCandidates(request));
  return TryConnect(candidates, request, seams);
}

base::Result<Located> ConnectOrStartDaemon(const LocateRequest& request, LocateSeams seams) {
  BELAY_ASSIGN(Candidates candidates, FindCandidates(request));
  auto running = TryConnect(candidates, request, seams);
  if (running || running.error().code != Code::kUnavailable) return running;
  if (candidates.private_socket.empty()) {
    return base::Wrap(running.error(), "the belayd you named must be running already");
  }
  candidates.sockets = {candidates.private_socket};
  BELAY_ASSIGN(pid_t pid, StartPrivate(candidates, seams));
  const base::SteadyTime until = seams.clock.Now() + request.start_timeout;
  while (true) {
    auto located = TryConnect(candidates, request, seams);
    if (located) {
      located->started = true;
      located->pid = pid;
      return located;
    }
    if (located.error().code != Code::kUnavailable) return located;
    BELAY_ASSIGN(const auto exited, seams.spawner.Wait(pid, base::Duration(kRetryPause)));
    if (exited && exited->status == static_cast<int>(base::ExitStatus::kDone)) {
      BELAY_ASSIGN(pid, StartPrivate(candidates, seams));  // it thought it was not needed; it is
    } else if (exited) {
      // Another starter may have been quicker: then that one's daemon holds the data directory and answers soon.
      if (auto others = TryConnect(candidates, request, seams); others) return others;
      return base::Fail(Code::kUnavailable, "belayd did not start (exit status ", exited->status, ": ",
                        base::ExitStatusMeaning(exited->status), ")", LogTail(seams.files, candidates.data_dir));
    }
    if (seams.clock.Now() >= until) {
      return base::Fail(Code::kUnavailable, "belayd (pid ", pid, ") started but does not answer on ",
                        candidates.private_socket, LogTail(seams.files, candidates.data_dir));
    }
  }
}

}  // namespace belay::checkpoint
