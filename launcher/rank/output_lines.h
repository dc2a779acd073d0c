// Cuts a stream of bytes into whole lines. Pure.
#pragma once

#include <cstddef>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace belay::launcher {

inline constexpr std::size_t kLineBytesMax = 1024 * 1024;  // a longer one is cut

class LineCutter {
 public:
  // The whole lines that `bytes` completes, each with its newline.
  std::string Feed(std::string_view bytes);
  // What is left at the end of the stream, with a newline added; empty if nothing is.
  std::string Finish();

 private:
  std::string partial_;
};

// The last lines of a program's output, shortened, for failure reports.
class LastLines {
 public:
  explicit LastLines(std::size_t count) : count_(count) {}
  void Feed(std::string_view whole_lines);
  std::vector<std::string> Get() const { return {lines_.begin(), lines_.end()}; }

 private:
  std::size_t count_;
  std::deque<std::string> lines_;
};

}  // namespace belay::launcher
