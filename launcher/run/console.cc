#include "launcher/run/console.h"

#include <algorithm>
#include <chrono>

#include "runtime/base/pipes.h"
#include "runtime/base/str.h"
#include "runtime/base/units.h"

namespace belay::launcher {
namespace {

using base::Str;

constexpr std::size_t kWaitingBytesMax = 16 * base::kMiB;
constexpr std::string_view kEraseLine = "\r\x1b[K";

}  // namespace

std::string TagLines(std::int32_t rank, std::string_view whole_lines) {
  const std::string tag = Str("[", rank, "] ");
  std::string tagged;
  tagged.reserve(whole_lines.size() + tag.size() * 8);
  while (!whole_lines.empty()) {
    const std::size_t newline = whole_lines.find('\n');
    const std::size_t taken = newline == std::string_view::npos ? whole_lines.size() : newline + 1;
    std::string_view line = whole_lines.substr(0, taken);
    whole_lines.remove_prefix(taken);
    // Of a progress bar that overwrites itself, only what a terminal would still show.
    const std::string_view body = line.substr(0, line.size() - (line.ends_with("\r\n") ? 2 : 1));
    if (const std::size_t back = body.rfind('\r'); back != std::string_view::npos) line.remove_prefix(back + 1);
    tagged += tag;
    tagged += line;
    if (newline == std::string_view::npos) tagged += '\n';
  }
  return tagged;
}

Console::Console(ConsoleOptions options) : options_(options), thread_([this] { Run(); }) {}

Console::~Console() {
  SetLiveLine("");
  Flush();
  {
    const std::scoped_lock lock(mutex_);
    ending_ = true;
  }
  changed_.notify_all();
}

void Console::Output(std::int32_t rank, std::string_view whole_lines, bool error_stream) {
  Post({TagLines(rank, whole_lines), error_stream || options_.output_to_stderr ? 2 : 1, true});
}

void Console::Say(std::string_view text) {
  if (!options_.quiet) Post({Str("belay: ", text, "\n"), 2, false});
}

void Console::Raw(std::string text) { Post({std::move(text), 2, false}); }

void Console::Result(std::string text) { Post({std::move(text), 1, false}); }

void Console::SetLiveLine(std::string text) {
  if (!options_.live_line) return;
  {
    const std::scoped_lock lock(mutex_);
    if (text == live_line_) return;
    live_line_ = std::move(text);
    live_changed_ = true;
  }
  changed_.notify_all();
}

void Console::Flush() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return waiting_.empty() && !busy_ && !live_changed_; });
}

void Console::Post(Piece piece) {
  std::unique_lock lock(mutex_);
  if (piece.of_rank) {
    const auto room = [&] { return waiting_bytes_ + piece.text.size() <= kWaitingBytesMax || waiting_.empty(); };
    if (dropping_ && waiting_bytes_ > kWaitingBytesMax / 2) {
      dropped_lines_ += static_cast<std::size_t>(std::ranges::count(piece.text, '\n'));
      return;
    }
    dropping_ = false;
    if (!changed_.wait_for(lock, std::chrono::seconds(2), room)) {
      dropping_ = true;
      dropped_lines_ += static_cast<std::size_t>(std::ranges::count(piece.text, '\n'));
      return;
    }
    if (dropped_lines_ > 0) {
      waiting_.push_back(
          {Str("belay: ", dropped_lines_, " lines are only in the rank logs: nobody read them here\n"), 2, false});
      dropped_lines_ = 0;
    }
  }
  waiting_bytes_ += piece.text.size();
  waiting_.push_back(std::move(piece));
  lock.unlock();
  changed_.notify_all();
}

void Console::Run() {
  bool reader_gone[3] = {};
  const auto write = [&](int descriptor, std::string_view text) {
    // A closed stdout (a pipe to head) ends the printing, not the training.
    if (!reader_gone[descriptor] && !base::WriteAll(descriptor, text)) reader_gone[descriptor] = true;
  };
  bool line_shown = false;
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return ending_ || !waiting_.empty() || live_changed_; });
    if (waiting_.empty() && !live_changed_) return;
    std::deque<Piece> pieces;
    pieces.swap(waiting_);
    std::size_t bytes = 0;
    const std::string line = live_line_;
    live_changed_ = false;
    busy_ = true;
    lock.unlock();
    if (line_shown) write(2, kEraseLine);
    for (const Piece& piece : pieces) {
      write(piece.descriptor, piece.text);
      bytes += piece.text.size();
    }
    line_shown = !line.empty();
    if (line_shown) write(2, line);
    lock.lock();
    waiting_bytes_ -= bytes;
    busy_ = false;
    changed_.notify_all();
  }
}

}  // namespace belay::launcher
