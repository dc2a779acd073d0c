// A line on the terminal that says how far a long reading is, and the brake that keeps it below a rate.
//
// Written over itself a few times a second; without a terminal there is none. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <string>

#include "runtime/base/clock.h"
#include "runtime/base/pace.h"

namespace belay::checkpoint::cli {

class Progress {
 public:
  using Write = std::function<void(const std::string&)>;
  // `columns`: of the terminal; none: stay silent. `rate`: bytes a second at most, 0: no limit.
  Progress(base::Clock& clock, Write write, std::optional<int> columns, std::uint64_t rate)
      : clock_(clock), write_(std::move(write)), columns_(columns), pace_(rate), began_(clock.Now()) {}

  void SetTotal(std::uint64_t bytes) { total_ = bytes; }
  // What the line names from now on.
  void Begin(const std::string& what);
  // `bytes` are about to be read: blocks as long as the rate demands.
  void Take(std::uint64_t bytes);
  // Takes the line away, so that something else can be printed.
  void Clear();
  double seconds() const;

 private:
  std::string Line(base::SteadyTime now) const;

  base::Clock& clock_;
  const Write write_;
  const std::optional<int> columns_;
  std::mutex mutex_;  // guards all below
  base::Pace pace_;
  const base::SteadyTime began_;
  std::uint64_t total_ = 0, done_ = 0;
  std::string what_;
  std::optional<base::SteadyTime> drawn_;  // when, if a line stands there
};

// On stderr.
Progress StderrProgress(std::uint64_t rate);

}  // namespace belay::checkpoint::cli
