#include "launcher/rank/output_lines.h"

namespace belay::launcher {

std::string LineCutter::Feed(std::string_view bytes) {
  std::string whole;
  while (!bytes.empty()) {
    const std::size_t newline = bytes.find('\n');
    const std::size_t room = kLineBytesMax - partial_.size();
    if (newline == std::string_view::npos && bytes.size() < room) {
      partial_ += bytes;
      break;
    }
    const bool cut = newline == std::string_view::npos || newline >= room;
    const std::size_t taken = cut ? room : newline + 1;
    whole += partial_;
    whole += bytes.substr(0, taken);
    if (cut) whole += '\n';
    partial_.clear();
    bytes.remove_prefix(taken);
  }
  return whole;
}

std::string LineCutter::Finish() {
  if (partial_.empty()) return "";
  std::string last = std::move(partial_);
  partial_.clear();
  last += '\n';
  return last;
}

void LastLines::Feed(std::string_view whole_lines) {
  constexpr std::size_t kShown = 400;
  while (!whole_lines.empty()) {
    const std::size_t newline = whole_lines.find('\n');
    std::string_view line = whole_lines.substr(0, newline);
    whole_lines.remove_prefix(newline == std::string_view::npos ? whole_lines.size() : newline + 1);
    // What a terminal would still show of a progress bar.
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (const std::size_t back = line.rfind('\r'); back != std::string_view::npos) line.remove_prefix(back + 1);
    lines_.push_back(line.size() <= kShown ? std::string(line) : std::string(line.substr(0, kShown)) + "...");
    if (lines_.size() > count_) lines_.pop_front();
  }
}

}  // namespace belay::launcher
