// Finding the belayd to talk to, or starting a private one. The one place that knows the rules:
//
//   data directory: the flag, else BELAY_DATA_DIR, else $XDG_DATA_HOME/belay, else ~/.local/share/belay
//   socket: the flag, else BELAY_SOCKET (only that one is tried);
//           else the private socket of the data directory, if it answers;
//           else the system's /run/belay/belayd.sock, if it answers and no data directory was named;
//           else a private belayd is started on the private socket.
//
// A private belayd serves one data directory for one user and leaves when nobody is connected any more.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/client/client.h"
#include "runtime/base/clock.h"
#include "runtime/base/file_system.h"
#include "runtime/base/process_spawner.h"
#include "runtime/base/result.h"
#include "runtime/base/transport.h"
#include "runtime/base/unique_fd.h"

namespace belay::checkpoint {

inline constexpr char kSystemSocket[] = "/run/belay/belayd.sock";

inline constexpr base::Duration kStartPatience = std::chrono::minutes(10);
inline constexpr base::Duration kStartWordsPause = std::chrono::seconds(10);

struct LocateRequest {
  std::optional<std::string> data_dir;  // --data-dir; none: environment, then default
  std::optional<std::string> socket;    // --socket; none: environment, then the rules above
  // --also-data-dir: a daemon that is started takes these in, and one that runs must have them.
  std::vector<std::string> also_data_dirs = {};
  std::string program = "belay";  // the name told to the daemon
  // A belayd that was started clears away what nobody committed and reads every manifest before it answers, which takes
  // as long as the disk takes. While its process lives it is waited for, so long at most,
  base::Duration start_timeout = kStartPatience;
  // and so often somebody is told (on the calling thread) what is waited for.
  base::Duration words_pause = kStartWordsPause;
  std::function<void(const std::string&)> still_starting;  // may be empty
};

struct LocateSeams {
  base::Transport& transport;
  base::FileSystem& files;
  base::ProcessSpawner& spawner;
  base::Clock& clock;
};
// The machine's own.
LocateSeams RealSeams();

// The socket that the user named, by flag or BELAY_SOCKET: then no other is tried, and nothing else takes its place. An
// empty variable names none.
std::optional<std::string> NamedSocket(const std::optional<std::string>& flag);
// Absolute, without a trailing slash. kInvalidArgument: an empty name, or one that is not UTF-8.
base::Result<std::string> ResolveDataDirectory(const std::optional<std::string>& flag);
// The folder for everything private with a socket in it: $XDG_RUNTIME_DIR/belay, or /tmp/belay-<uid> if that variable
// names no folder, or one too long for a socket's path. Made (0700) if missing. kPermissionDenied: it is a link, or
// belongs to, or can be written by, somebody else.
base::Result<std::string> PrivateRuntimeFolder(base::FileSystem& files);
// <h>.sock in that folder, h = 16 hex digits of the data directory's SHA-256.
base::Result<std::string> PrivateSocketPath(const std::string& data_dir);

struct Located {
  std::unique_ptr<Client> client;
  std::string socket;
  std::string data_dir;  // the daemon's own word where it is known, else by the rules
  bool started = false;  // by this call
  std::int32_t pid = 0;  // of the daemon this call started
};

// Connects to a running one. kUnavailable says which sockets were tried; kInvalidArgument: it runs without one of
// `also_data_dirs`.
base::Result<Located> ConnectToDaemon(const LocateRequest& request, LocateSeams seams = RealSeams());
// The same, but starts a private one if none answers (never if a socket was named) and waits until it does. If it ends
// instead, the error is WhyItEnded.
base::Result<Located> ConnectOrStartDaemon(const LocateRequest& request, LocateSeams seams = RealSeams());

// A belayd that was just started, in a session of its own: it outlives us and needs nothing of ours.
struct StartedDaemon {
  pid_t pid = 0;
  base::UniqueFd words;  // memory that its stderr goes to: it has no log before it has its data directory
  std::string log_path;
  std::uint64_t log_inode = 0, log_bytes = 0;  // the log as it was before
};
// Starts the belayd beside this program, or else that of PATH, with these arguments.
base::Result<StartedDaemon> StartDaemon(std::vector<std::string> arguments, const std::string& data_dir,
                                        LocateSeams seams = RealSeams());
// "belayd (pid 12) is still starting ...", for whoever waits.
std::string StillStarting(const StartedDaemon& daemon);
// The code that its exit status stands for (kUnavailable if it stands for none), and its last words.
base::Error WhyItEnded(const StartedDaemon& daemon, const base::ExitEvent& exit, LocateSeams seams = RealSeams());

}  // namespace belay::checkpoint
