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

#include <memory>
#include <optional>
#include <string>

#include "checkpoint/client/client.h"
#include "runtime/base/clock.h"
#include "runtime/base/file_system.h"
#include "runtime/base/process_spawner.h"
#include "runtime/base/result.h"
#include "runtime/base/transport.h"

namespace belay::checkpoint {

inline constexpr char kSystemSocket[] = "/run/belay/belayd.sock";

struct LocateRequest {
  std::optional<std::string> data_dir;  // --data-dir; none: environment, then default
  std::optional<std::string> socket;    // --socket; none: environment, then the rules above
  std::string program = "belay";        // the name told to the daemon
  base::Duration start_timeout = std::chrono::seconds(10);
};

struct LocateSeams {
  base::Transport& transport;
  base::FileSystem& files;
  base::ProcessSpawner& spawner;
  base::Clock& clock;
};
// The machine's own.
LocateSeams RealSeams();

// Absolute, without a trailing slash. kInvalidArgument: an empty name.
base::Result<std::string> ResolveDataDirectory(const std::optional<std::string>& flag);
// $XDG_RUNTIME_DIR/belay/<h>.sock, else /tmp/belay-<uid>/<h>.sock, h = 16 hex digits of the data directory's SHA-256.
// Makes the folder (0700) if missing. kPermissionDenied: the folder belongs to, or can be written by, somebody else.
base::Result<std::string> PrivateSocketPath(const std::string& data_dir);

struct Located {
  std::unique_ptr<Client> client;
  std::string socket;
  std::string data_dir;  // the daemon's own word where it is known, else by the rules
  bool started = false;  // by this call
  std::int32_t pid = 0;  // of the daemon this call started
};

// Connects to a running one. kUnavailable says which sockets were tried.
base::Result<Located> ConnectToDaemon(const LocateRequest& request, LocateSeams seams = RealSeams());
// The same, but starts a private one if none answers (never if a socket was named) and waits until it does. What belayd
// wrote last to its log is in the error's message if it does not.
base::Result<Located> ConnectOrStartDaemon(const LocateRequest& request, LocateSeams seams = RealSeams());

}  // namespace belay::checkpoint
