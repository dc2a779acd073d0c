#include "checkpoint/cli/progress.h"

#include <algorithm>
#include <cstdio>

#include "runtime/base/host.h"
#include "runtime/base/str.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::cli {
namespace {

constexpr auto kBetweenLines = std::chrono::milliseconds(200);
constexpr int kStderr = 2;

}  // namespace

void Progress::Begin(const std::string& what) {
  const std::scoped_lock lock(mutex_);
  what_ = what;
}

void Progress::Take(std::uint64_t bytes) {
  base::SteadyTime now = clock_.Now(), until = now;
  {
    const std::scoped_lock lock(mutex_);
    until = pace_.Take(bytes, now);
  }
  if (until > now) clock_.SleepFor(until - now);
  now = clock_.Now();
  const std::scoped_lock lock(mutex_);
  done_ += bytes;
  if (!columns_ || (drawn_ && now - *drawn_ < kBetweenLines)) return;
  drawn_ = now;
  std::string line = Line(now);
  line.resize(static_cast<std::size_t>(std::max(*columns_ - 1, 1)), ' ');  // over what stood there
  write_("\r" + line);
}

void Progress::Clear() {
  const std::scoped_lock lock(mutex_);
  if (!drawn_) return;
  drawn_.reset();
  write_("\r" + std::string(static_cast<std::size_t>(std::max(*columns_ - 1, 1)), ' ') + "\r");
}

double Progress::seconds() const { return std::chrono::duration<double>(clock_.Now() - began_).count(); }

std::string Progress::Line(base::SteadyTime now) const {
  const double past = std::chrono::duration<double>(now - began_).count();
  std::string line = what_ + ": " + base::HumanBytes(done_);
  if (total_ > 0) {
    const std::uint64_t percent = std::min<std::uint64_t>(100, done_ * 100 / total_);
    line = base::Str(what_, ": ", percent, " % of ", base::HumanBytes(total_));
  }
  if (past < 1) return line;
  const double rate = static_cast<double>(done_) / past;
  line += base::Str(", ", base::HumanBytes(static_cast<std::uint64_t>(rate)), "/s");
  if (total_ > done_ && rate > 0) {
    line += base::Str(", ", static_cast<std::uint64_t>(static_cast<double>(total_ - done_) / rate), " s left");
  }
  return line;
}

Progress StderrProgress(std::uint64_t rate) {
  return Progress(
      base::SystemClock(), [](const std::string& text) { std::fputs(text.c_str(), stderr); },
      base::TerminalColumns(kStderr), rate);
}

}  // namespace belay::checkpoint::cli
