#include "checkpoint/client/locate.h"

#include <algorithm>
#include <cerrno>
#include <span>
#include <string_view>
#include <system_error>
#include <utility>

#include "checkpoint/format/digest.h"
#include "checkpoint/format/strict_json.h"
#include "runtime/base/environment.h"
#include "runtime/base/shared_memory.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {

using base::Code;

namespace {

constexpr std::uint64_t kTailBytes = 1500;
constexpr std::uint64_t kStderrBytes = 16 * base::kKiB;
constexpr auto kConnectTimeout = std::chrono::seconds(5);
constexpr auto kRetryPause = std::chrono::milliseconds(10);
// A socket's path has room for 107 bytes, and this is the longest of ours.
constexpr std::size_t kRuntimeBytesMax = 107 - std::string_view("/belay/r-0123456789abcdef/control.sock").size();

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

struct Candidates {
  std::string data_dir;
  std::vector<std::string> also;     // data folders beside it
  std::string private_socket;        // where one may be started; empty if a socket was named
  std::vector<std::string> sockets;  // to be tried, in order
};

base::Result<Candidates> FindCandidates(const LocateRequest& request) {
  Candidates found;
  BELAY_ASSIGN(found.data_dir, ResolveDataDirectory(request.data_dir));
  for (const std::string& also : request.also_data_dirs) {
    BELAY_ASSIGN(std::string folder, ResolveDataDirectory(also));
    found.also.push_back(std::move(folder));
  }
  if (const auto named = NamedSocket(request.socket)) {
    found.sockets.push_back(*named);
    return found;
  }
  BELAY_ASSIGN(found.private_socket, PrivateSocketPath(found.data_dir));
  found.sockets.push_back(found.private_socket);
  if (!FlagOrEnvironment(request.data_dir, "BELAY_DATA_DIR")) found.sockets.emplace_back(kSystemSocket);
  return found;
}

// It takes them in at its start only.
base::Status CheckHasFolders(const DaemonReport& report, const std::vector<std::string>& wanted) {
  for (const std::string& path : wanted) {
    const bool has = std::ranges::any_of(
        report.also, [&](const DataFolderReport& folder) { return folder.path == path && !folder.retired; });
    if (has) continue;
    return base::Fail(Code::kInvalidArgument, "the belayd that runs (pid ", report.pid, ", data dir ", report.data_dir,
                      ") does not write to ", path,
                      ": stop it first (belay daemon stop), or leave --also-data-dir out");
  }
  return {};
}

base::Result<Located> TryConnect(const Candidates& candidates, const LocateRequest& request, LocateSeams seams) {
  std::string tried;
  for (const std::string& socket : candidates.sockets) {
    auto client = Client::Connect(seams.transport, socket, request.program, kConnectTimeout);
    if (client) {
      Located located{*std::move(client), socket, candidates.data_dir, false, 0};
      // A daemon found by its socket alone may serve another folder than the rules would choose.
      if (socket != candidates.private_socket || !candidates.also.empty()) {
        BELAY_ASSIGN(const DaemonReport report, located.client->GetDaemonStatus());
        located.data_dir = report.data_dir;
        BELAY_TRY(CheckHasFolders(report, candidates.also));
      }
      return located;
    }
    if (client.error().code != Code::kUnavailable) return tl::unexpected(client.error());
    tried += (tried.empty() ? "" : ", ") + socket;
  }
  return base::Fail(Code::kUnavailable, "no belayd answers (tried ", tried, ")");
}

// The last lines of a text, as many as fit.
std::string_view Tail(std::string_view text) {
  while (text.ends_with('\n')) text.remove_suffix(1);
  if (text.size() <= kTailBytes) return text;
  text.remove_prefix(text.size() - kTailBytes);
  const std::size_t line = text.find('\n');
  return line == std::string_view::npos ? text : text.substr(line + 1);
}

// What the log has gained since the start: older lines tell of an earlier belayd.
std::string NewLogLines(base::FileSystem& files, const StartedDaemon& daemon) {
  const auto read = [&]() -> base::Result<std::string> {
    BELAY_ASSIGN(const base::FileInfo info, files.Stat(daemon.log_path));
    const std::uint64_t old = info.inode == daemon.log_inode ? std::min(daemon.log_bytes, info.size_bytes) : 0;
    const std::uint64_t from = std::max(old, info.size_bytes - std::min(info.size_bytes, 2 * kTailBytes));
    BELAY_ASSIGN(const auto file, files.Open(daemon.log_path, {}));
    std::string text(info.size_bytes - from, '\0');
    BELAY_ASSIGN(const std::size_t got, file->ReadAt(from, std::as_writable_bytes(std::span(text))));
    text.resize(got);
    return std::string(Tail(text));
  };
  return read().value_or(std::string());
}

// What its stderr has got; beyond the memory's end nothing was kept.
std::string StderrLines(const StartedDaemon& daemon) {
  const auto memory = base::MapSharedMemory(daemon.words.get(), kStderrBytes, base::MapAccess::kRead);
  if (!memory) return {};
  std::string_view text(reinterpret_cast<const char*>(memory->bytes().data()), memory->bytes().size());
  text = Tail(text.substr(0, text.find('\0')));
  constexpr std::string_view kName = "belayd: ";
  if (text.starts_with(kName)) text.remove_prefix(kName.size());
  return std::string(text);
}

// ": why", for the end of a message about it.
std::string LastWords(base::FileSystem& files, const StartedDaemon& daemon) {
  if (const std::string said = StderrLines(daemon); !said.empty()) return ": " + said;
  const std::string logged = NewLogLines(files, daemon);
  return logged.empty() ? base::Str("; it said nothing, and logged nothing to ", daemon.log_path)
                        : base::Str("; the end of ", daemon.log_path, ":\n", logged);
}

// Several codes share an exit status; its words tell those apart that call for different help.
Code CodeOfExit(const base::ExitEvent& exit, const std::string& words) {
  const auto says = [&](int error_number) {
    return words.find(std::generic_category().message(error_number)) != std::string::npos;
  };
  if (exit.signal != 0) return Code::kUnavailable;
  switch (static_cast<base::ExitStatus>(exit.status)) {
    case base::ExitStatus::kUsage:
      return Code::kInvalidArgument;
    case base::ExitStatus::kBadData:
      return Code::kCorrupt;
    case base::ExitStatus::kNoInput:
      return Code::kNotFound;
    case base::ExitStatus::kInternal:
      return Code::kInternal;
    case base::ExitStatus::kOsError:
      return Code::kOutOfMemory;
    case base::ExitStatus::kCannotCreate:
      if (says(EROFS)) return Code::kReadOnly;
      return says(ENOSPC) || says(EDQUOT) ? Code::kNoSpace : Code::kAlreadyExists;
    case base::ExitStatus::kIo:
      return Code::kIo;
    case base::ExitStatus::kTemporaryFailure:
      return Code::kTimeout;
    case base::ExitStatus::kProtocol:
      return Code::kProtocol;
    case base::ExitStatus::kNoPermission:
      return Code::kPermissionDenied;
    default:
      return Code::kUnavailable;
  }
}

std::string BelaydProgram(base::FileSystem& files) {
  const std::string beside = base::ProgramDirectory() + "/belayd";
  return base::Exists(files, beside) ? beside : "belayd";  // else by PATH
}

base::Result<StartedDaemon> StartPrivate(const Candidates& candidates, LocateSeams seams) {
  std::vector<std::string> words = {"--private", "--data-dir", candidates.data_dir, "--socket",
                                    candidates.private_socket};
  for (const std::string& also : candidates.also) words.insert(words.end(), {"--also-data-dir", also});
  return StartDaemon(std::move(words), candidates.data_dir, seams);
}

}  // namespace

LocateSeams RealSeams() {
  return {base::UnixTransport(), base::PosixFileSystem(), base::PosixProcessSpawner(), base::SystemClock()};
}

std::optional<std::string> NamedSocket(const std::optional<std::string>& flag) {
  return FlagOrEnvironment(flag, "BELAY_SOCKET");
}

base::Result<std::string> ResolveDataDirectory(const std::optional<std::string>& flag) {
  if (flag && flag->empty()) return base::Fail(Code::kInvalidArgument, "--data-dir is empty");
  std::string folder;
  if (const auto named = FlagOrEnvironment(flag, "BELAY_DATA_DIR")) {
    folder = Absolute(*named);
  } else if (const auto xdg = FlagOrEnvironment(std::nullopt, "XDG_DATA_HOME")) {
    folder = Absolute(*xdg + "/belay");
  } else {
    folder = Absolute(base::HomeDirectory() + "/.local/share/belay");
  }
  if (!IsUtf8(folder)) {  // it is named in messages and documents, which are
    return base::Fail(Code::kInvalidArgument, "the name of the data directory ", ToUtf8(folder),
                      " is not UTF-8: name another with --data-dir or BELAY_DATA_DIR");
  }
  return folder;
}

base::Result<std::string> PrivateRuntimeFolder(base::FileSystem& files) {
  std::string folder = base::Str("/tmp/belay-", base::UserId());
  // A runtime folder that is not there (a container with the variable handed in) is as good as none.
  if (const auto runtime = FlagOrEnvironment(std::nullopt, "XDG_RUNTIME_DIR");
      runtime && runtime->starts_with('/') && runtime->size() <= kRuntimeBytesMax && base::Exists(files, *runtime)) {
    folder = Absolute(*runtime) + "/belay";
  }
  if (auto made = files.MakeDirectory(folder, 0700); !made && made.error().code != Code::kAlreadyExists) {
    return base::Wrap(made.error(), "no private folder for sockets");
  }
  // Whoever can write there could put a daemon of his own there, and whoever planted a link can turn it elsewhere.
  const auto info = files.Stat(folder);
  if (!info || info->is_link || !info->is_directory || info->owner_uid != base::UserId() ||
      (info->permissions & 0022) != 0) {
    return base::Fail(Code::kPermissionDenied, folder,
                      " must be a folder of yours that only you can write to (mode 0700), and no link: move it away");
  }
  return folder;
}

base::Result<std::string> PrivateSocketPath(const std::string& data_dir) {
  BELAY_ASSIGN(const std::string folder, PrivateRuntimeFolder(base::PosixFileSystem()));
  return folder + "/" + Sha256Hex(std::string_view(data_dir)).substr(0, 16) + ".sock";
}

base::Result<StartedDaemon> StartDaemon(std::vector<std::string> arguments, const std::string& data_dir,
                                        LocateSeams seams) {
  StartedDaemon daemon;
  daemon.log_path = data_dir + "/.belayd/belayd.log";
  if (const auto log = seams.files.Stat(daemon.log_path)) {
    daemon.log_inode = log->inode;
    daemon.log_bytes = log->size_bytes;
  }
  base::SpawnRequest spawn;
  spawn.argv = std::move(arguments);
  spawn.argv.insert(spawn.argv.begin(), BelaydProgram(seams.files));
  spawn.environment = base::WholeEnvironment();
  spawn.working_directory = "/";
  // Neither our stdout, whose reader would wait for the daemon to end, nor a pipe, whose end it would meet when we
  // leave.
  BELAY_ASSIGN(const auto null, seams.files.Open("/dev/null", {.mode = base::OpenOptions::Mode::kReadWrite}));
  base::UniqueFd borrowed(null->Descriptor());
  spawn.output = borrowed.Duplicate();
  static_cast<void>(borrowed.Release());  // it stays the file's
  BELAY_ASSIGN(daemon.words, base::CreateSharedMemory({.name = "belayd-stderr", .size_bytes = kStderrBytes}));
  spawn.error = daemon.words.Duplicate();
  spawn.dies_with_parent = false;
  spawn.new_session = true;
  auto pid = seams.spawner.Spawn(std::move(spawn));
  if (!pid) return base::Wrap(std::move(pid).error(), "cannot start belayd");
  daemon.pid = *pid;
  return daemon;
}

std::string StillStarting(const StartedDaemon& daemon) {
  return base::Str("belayd (pid ", daemon.pid, ") is still starting: it reads every checkpoint of the data directory; ",
                   daemon.log_path, " says how far it is");
}

base::Error WhyItEnded(const StartedDaemon& daemon, const base::ExitEvent& exit, LocateSeams seams) {
  const std::string words = LastWords(seams.files, daemon);
  return {CodeOfExit(exit, words),
          base::Str("belayd did not start (exit status ", exit.status, ": ", base::ExitStatusMeaning(exit.status), ")",
                    words),
          nullptr};
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
  BELAY_ASSIGN(StartedDaemon daemon, StartPrivate(candidates, seams));
  const base::SteadyTime until = seams.clock.Now() + request.start_timeout;
  base::SteadyTime words_due = seams.clock.Now() + request.words_pause;
  while (true) {
    auto located = TryConnect(candidates, request, seams);
    if (located) {
      located->started = true;
      located->pid = daemon.pid;
      return located;
    }
    if (located.error().code != Code::kUnavailable) return located;
    BELAY_ASSIGN(const auto exited, seams.spawner.Wait(daemon.pid, base::Duration(kRetryPause)));
    if (exited && exited->status == static_cast<int>(base::ExitStatus::kDone)) {
      BELAY_ASSIGN(daemon, StartPrivate(candidates, seams));  // it thought it was not needed; it is
    } else if (exited) {
      // Another starter may have been quicker: then that one's daemon holds the data directory and answers soon.
      if (auto others = TryConnect(candidates, request, seams); others) return others;
      return tl::unexpected(WhyItEnded(daemon, *exited, seams));
    }
    if (seams.clock.Now() >= until) {
      return base::Fail(Code::kUnavailable, "belayd (pid ", daemon.pid, ") started but does not answer on ",
                        candidates.private_socket, LastWords(seams.files, daemon));
    }
    if (seams.clock.Now() >= words_due) {
      words_due = seams.clock.Now() + request.words_pause;
      if (request.still_starting) request.still_starting(StillStarting(daemon));
    }
  }
}

}  // namespace belay::checkpoint
