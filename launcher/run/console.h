// Everything a run prints: the ranks' lines, belay's own words, and the one live line of progress on a terminal.
//
// A single thread writes, so lines never interleave. Output waits in a bounded queue; when the reader of our stdout is
// slow, posting threads wait for it up to two seconds, then lines are dropped (they are in the rank logs) and counted,
// because a stuck terminal must not stop the training. Thread-safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
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
  // Waits until all is written, or nothing more for so long: whoever has stopped reading (Ctrl-S, a pager) must not
  // keep a run that has saved from ending. False if something is left.
  bool Flush(std::chrono::milliseconds patience);
  // To stdout, whole, after everything before it.
  void Result(std::string text);

 private:
  struct Piece {
    std::string text;
    int descriptor = 2;
    bool of_rank = false;
  };
  // Shared with the thread, which is left behind if it cannot write any more.
  struct State {
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<Piece> waiting;          // guarded by mutex
    std::size_t waiting_bytes = 0;      // guarded by mutex
    std::uint64_t written_parts = 0;    // guarded by mutex
    std::size_t dropped_lines = 0;      // guarded by mutex
    bool dropping = false;              // guarded by mutex
    std::string live_line;              // guarded by mutex
    bool live_changed = false;          // guarded by mutex
    bool busy = false, ending = false;  // guarded by mutex
  };
  void Post(Piece piece);
  static void Run(State& state);

  const ConsoleOptions options_;
  const std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace belay::launcher
