// The run's control socket: shims and `belay stop|status` call here.
//
// One thread accepts, one per connection reads. Shims of another attempt, other users and anything that is not the
// protocol are turned away. Output goes straight to the console; everything else becomes an event of the loop, the ends
// of programs in the order of their deaths: one whose shim still collects its output is waited for, within limits.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "launcher/protocol/messages.h"
#include "launcher/run/console.h"
#include "launcher/supervise/supervisor.h"
#include "runtime/base/transport.h"

namespace belay::launcher {

class ControlServer {
 public:
  struct Hooks {
    // Any thread. `attempt` is the number given to OpenAttempt; 0 for commands.
    std::function<void(std::uint64_t attempt, Event event)> post;
    std::function<wire::JobStatus()> status;
  };

  static base::Result<std::unique_ptr<ControlServer>> Listen(base::Transport& transport, const std::string& path,
                                                             std::uint32_t uid, Console& console, Hooks hooks);
  ~ControlServer();

  // Shims that show `mark` belong to this attempt from now on.
  void OpenAttempt(std::uint64_t attempt, const std::string& mark, std::int32_t world_size);
  // Ends the attempt's connections: shims that are still there kill their programs.
  void CloseAttempt();
  // To the rank's shim; nothing happens if it is gone.
  void Send(std::int32_t rank, const wire::FromLauncher& message);

 private:
  ControlServer(std::unique_ptr<base::Listener> listener, std::uint32_t uid, Console& console, Hooks hooks);
  struct Reader {
    std::jthread thread;
    std::shared_ptr<std::atomic<bool>> done;  // it is about to end
  };
  void Accept();
  void StartReader(const std::shared_ptr<base::Connection>& connection);
  void Reap();
  void Serve(const std::shared_ptr<base::Connection>& connection);
  void ServeShim(base::Connection& connection, std::uint64_t attempt, std::int32_t rank);
  void NoteEnding(std::uint64_t attempt, std::int32_t rank, std::int64_t steady_ns);
  void AwaitEarlierEnds(std::uint64_t attempt, std::int32_t rank, std::int64_t steady_ns);
  void ForgetEnding(std::uint64_t attempt, std::int32_t rank);

  std::unique_ptr<base::Listener> listener_;
  const std::uint32_t uid_;
  Console& console_;
  const Hooks hooks_;
  std::mutex mutex_;
  std::uint64_t attempt_ = 0;                                        // guarded by mutex_
  std::string mark_;                                                 // guarded by mutex_
  std::int32_t world_size_ = 0;                                      // guarded by mutex_
  std::map<std::int32_t, std::shared_ptr<base::Connection>> shims_;  // of the attempt; guarded by mutex_
  std::map<std::int32_t, std::int64_t> ends_to_tell_;                // rank to steady ns; guarded by mutex_
  std::condition_variable end_told_;
  std::vector<std::weak_ptr<base::Connection>> open_;  // guarded by mutex_
  std::vector<Reader> readers_;                        // guarded by mutex_
  bool ending_ = false;                                // guarded by mutex_
  std::jthread acceptor_;
};

}  // namespace belay::launcher
