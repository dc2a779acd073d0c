// What the launcher knows of one rank: who it is, how far it got, how it ended.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "launcher/supervise/job_state.h"
#include "runtime/base/clock.h"

namespace belay::launcher {

// What a rank's control page said last (runtime/base/control_page.h).
struct RankProgress {
  bool attached = false;  // a Session has mapped the page
  std::uint32_t phase = 0;
  std::int64_t step = 0;
  std::int64_t total_steps = 0;
  std::int64_t committed_step = -1;
  std::int64_t resumed_step = -1;
  std::uint32_t outcome = 0;  // ControlPage::outcome
  double loss = std::numeric_limits<double>::quiet_NaN();
  double samples_per_second = std::numeric_limits<double>::quiet_NaN();
  double tokens_per_second = std::numeric_limits<double>::quiet_NaN();
  double stall_ms = std::numeric_limits<double>::quiet_NaN();
  double data_wait_ms = std::numeric_limits<double>::quiet_NaN();
  std::uint64_t resumed_generation = 0;  // of the checkpoint; 0: fresh start, or a program that does not say
  std::uint32_t trust_steps = 0;         // ControlPage::trust_steps
  bool diverged = false;                 // ControlPage::diverged
  bool Resumed() const { return attached && resumed_generation > 0; }
  // A stop came, and every rank had saved before finish() returned on this one: no step can be lost any more.
  bool SaidSaved() const { return attached && outcome == 2; }
  // Steps finished since the rank came back from its checkpoint, or since its start.
  std::int64_t StepsDone() const { return std::max<std::int64_t>(0, step - std::max<std::int64_t>(0, resumed_step)); }
};

struct RankExit {
  int status = 0;              // exit status, or 128 + signal
  int signal = 0;              // the signal that ended it, or 0
  bool never_started = false;  // exec failed: `error` says why
  bool out_of_memory = false;  // the kernel's out-of-memory killer was at work meanwhile
  std::string error;
  std::vector<std::string> last_lines;  // of its output
};

struct RankRecord {
  std::int32_t rank = 0;
  std::int32_t local_rank = 0;
  std::string host;
  std::int32_t shim_pid = 0;  // belay-rank
  std::int32_t pid = 0;       // the program; 0 until it was started
  std::string log_path;
  RankState state = RankState::kAbsent;
  RankProgress progress;
  std::optional<RankExit> exit;  // set when kEnded
  base::SteadyTime ended_at{};   // when kEnded or kLost
  bool killed_by_us = false;     // belay told it to die before it ended
  bool told_to_stop = false;     // a stop was asked for before it ended
  bool Gone() const { return state == RankState::kEnded || state == RankState::kLost; }
};

}  // namespace belay::launcher
