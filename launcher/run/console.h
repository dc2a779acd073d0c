// Everything a run prints: the ranks' lines, belay's own words, and the one live line of progress on a terminal.
//
// A single thread writes, so lines never interleave. Output waits in a bounded queue; when the reader of our stdout is
// slow, posting threads wait for it up to two seconds, then lines are dropped (they are in the rank logs) and counted,
// because a stuck terminal must not stop the training. Thread-safe.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

namespace belay::launcher {

struct ConsoleOptions {
  bool output_to_stderr = false;  // with --json, stdout is for the verdict
  bool quiet = false;             // of belay's own words only failures
  bool live_line = false;         // stderr is a terminal and progress is wanted
};

// "[3] " before every line.
std::string TagLines(std::int32_t rank, std::string_view whole_lines);

class Console {
 public:
  explicit Console(ConsoleOptions options);
  ~Console();

  void Output(std::int32_t rank, std::string_view whole_lines, bool error_stream);
  // "belay: text"; not with --quiet.
  void Say(std::string_view text);
  // As it is, to stderr, even with --quiet.
  void Raw(std::string text);
  // The live line from now on; empty: none. Does nothing unless there is one.
  void SetLiveLine(std::string text);
  // Returns when all is written.
  void Flush();
  // To stdout, whole, after everything before it.
  void Result(std::string text);

 private:
  struct Piece {
    std::string text;
    int descriptor = 2;
    bool of_rank = false;
  };
  void Post(Piece piece);
  void Run();

  const ConsoleOptions options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Piece> waiting_;           // guarded by mutex_
  std::size_t waiting_bytes_ = 0;       // guarded by mutex_
  std::size_t dropped_lines_ = 0;       // guarded by mutex_
  bool dropping_ = false;               // guarded by mutex_
  std::string live_line_;               // guarded by mutex_
  bool live_changed_ = false;           // guarded by mutex_
  bool busy_ = false, ending_ = false;  // guarded by mutex_
  std::jthread thread_;
};

}  // namespace belay::launcher
