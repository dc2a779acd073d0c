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
constexpr std::size_t kPartBytes = 16 * base::kKiB;
constexpr std::chrono::seconds kFlushPatience(3);
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

Console::Console(ConsoleOptions options)
    : options_(options), state_(std::make_shared<State>()), thread_([state = state_] { Run(*state); }) {}

Console::~Console() {
  SetLiveLine("");
  const bool written = Flush(kFlushPatience);
  {
    const std::scoped_lock lock(state_->mutex);
    state_->ending = true;
  }
  state_->changed.notify_all();
  if (written) {
    thread_.join();
  } else {
    thread_.detach();
  }
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
    const std::scoped_lock lock(state_->mutex);
    if (text == state_->live_line) return;
    state_->live_line = std::move(text);
    state_->live_changed = true;
  }
  state_->changed.notify_all();
}

bool Console::Flush(std::chrono::milliseconds patience) {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  while (true) {
    const std::uint64_t before = s.written_parts;
    if (s.changed.wait_for(lock, patience, [&s] { return s.waiting.empty() && !s.busy && !s.live_changed; }))
      return true;
    if (s.written_parts == before) return false;
  }
}

void Console::Post(Piece piece) {
  State& s = *state_;
  std::unique_lock lock(s.mutex);
  if (piece.of_rank) {
    const auto room = [&] { return s.waiting_bytes + piece.text.size() <= kWaitingBytesMax || s.waiting.empty(); };
    if (s.dropping && s.waiting_bytes > kWaitingBytesMax / 2) {
      s.dropped_lines += static_cast<std::size_t>(std::ranges::count(piece.text, '\n'));
      return;
    }
    s.dropping = false;
    if (!s.changed.wait_for(lock, std::chrono::seconds(2), room)) {
      s.dropping = true;
      s.dropped_lines += static_cast<std::size_t>(std::ranges::count(piece.text, '\n'));
      return;
    }
    if (s.dropped_lines > 0) {
      s.waiting.push_back(
          {Str("belay: ", s.dropped_lines, " lines are only in the rank logs: nobody read them here\n"), 2, false});
      s.dropped_lines = 0;
    }
  }
  s.waiting_bytes += piece.text.size();
  s.waiting.push_back(std::move(piece));
  lock.unlock();
  s.changed.notify_all();
}

void Console::Run(State& s) {
  bool reader_gone[3] = {};
  const auto write = [&](int descriptor, std::string_view text) {
    // A closed stdout (a pipe to head) ends the printing, not the training.
    if (!reader_gone[descriptor] && !base::WriteAll(descriptor, text)) reader_gone[descriptor] = true;
  };
  bool line_shown = false;
  std::unique_lock lock(s.mutex);
  while (true) {
    s.changed.wait(lock, [&] { return s.ending || !s.waiting.empty() || s.live_changed; });
    if (s.waiting.empty() && !s.live_changed) return;
    std::deque<Piece> pieces;
    pieces.swap(s.waiting);
    std::size_t bytes = 0;
    const std::string line = s.live_line;
    s.live_changed = false;
    s.busy = true;
    lock.unlock();
    if (line_shown) write(2, kEraseLine);
    for (const Piece& piece : pieces) {
      // In parts, so that a slow reader is told from one that does not read.
      for (std::string_view rest = piece.text; !rest.empty(); rest.remove_prefix(std::min(rest.size(), kPartBytes))) {
        write(piece.descriptor, rest.substr(0, kPartBytes));
        const std::scoped_lock counting(s.mutex);
        ++s.written_parts;
      }
      bytes += piece.text.size();
    }
    line_shown = !line.empty();
    if (line_shown) write(2, line);
    lock.lock();
    s.waiting_bytes -= bytes;
    s.busy = false;
    s.changed.notify_all();
  }
}

}  // namespace belay::launcher
