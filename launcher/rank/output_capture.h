// Captures a program's stdout and stderr: every line into the rank's log file, then on to the launcher.
//
// A launcher that does not read must not stop the training: lines wait in a queue of bounded size and are dropped from
// there (never from the log) when it is full; the launcher is told how many. The connection must have no send timeout.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "launcher/protocol/messages.h"
#include "launcher/rank/output_lines.h"
#include "runtime/base/file_system.h"
#include "runtime/base/unique_fd.h"

namespace belay::launcher {

// Sends messages to the launcher in order, from any thread, without making the caller wait.
class Outbox {
 public:
  explicit Outbox(base::Connection& connection);
  ~Outbox();
  // Output may be dropped when the launcher is slow, and of several Progress in a row the newest is enough; anything
  // else is kept.
  void Post(wire::ToLauncher message);
  // Waits until all is sent or the deadline passes. After it nothing may be posted.
  void Flush(base::Duration deadline);

 private:
  void Run();
  base::Connection& connection_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<wire::ToLauncher> waiting_;                 // guarded by mutex_
  std::size_t waiting_bytes_ = 0;                        // of output; guarded by mutex_
  std::size_t dropped_lines_ = 0;                        // guarded by mutex_
  bool busy_ = false, ending_ = false, broken_ = false;  // guarded by mutex_
  std::jthread thread_;
};

class OutputCapture {
 public:
  // `log` may be null: then lines go to the launcher alone.
  OutputCapture(std::unique_ptr<base::File> log, std::uint64_t log_bytes, Outbox& outbox);
  ~OutputCapture();
  // Takes the reading ends and starts reading.
  void Start(base::UniqueFd output, base::UniqueFd error);
  // Waits for the ends of both streams (every writer has closed), but no longer than the deadline; true if they came.
  bool Join(base::Duration deadline);
  std::vector<std::string> last_lines();

 private:
  void Read(int fd, bool error_stream);
  void Deliver(const std::string& lines, bool error_stream);

  std::mutex log_mutex_;             // held while the log is written, which may take long
  std::unique_ptr<base::File> log_;  // guarded by log_mutex_
  std::uint64_t log_bytes_;          // guarded by log_mutex_
  Outbox& outbox_;
  base::UniqueFd output_, error_;
  std::mutex mutex_;  // never held for long, so that Join and last_lines keep their word
  std::condition_variable ended_changed_;
  int ended_ = 0;       // guarded by mutex_
  LastLines last_{20};  // guarded by mutex_
  std::jthread output_thread_, error_thread_;
};

}  // namespace belay::launcher
