// What the supervisor knows of a run, its limits, and how a run may end.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "launcher/supervise/failure_report.h"
#include "launcher/supervise/job_state.h"
#include "launcher/supervise/rank_record.h"
#include "runtime/base/clock.h"
#include "runtime/base/ids.h"

namespace belay::launcher {

struct SupervisorConfig {
  std::int32_t world_size = 1;
  std::int32_t restarts_max = 3;
  base::Duration grace = std::chrono::seconds(60);
  base::Duration launch_timeout = std::chrono::seconds(60);
  base::Duration settle = std::chrono::milliseconds(250);
  // How old a program must be to be taken for one that will not attach; at most half the grace is spent on waiting.
  base::Duration attach_patience = std::chrono::seconds(3);
  base::Duration kill_timeout = std::chrono::seconds(5);     // for shims to say that their programs are gone
  base::Duration release_timeout = std::chrono::seconds(5);  // for mpirun to leave by itself
  base::Duration clean_timeout = std::chrono::seconds(20);
  std::optional<base::Duration> time_limit;  // --timeout: then stop as if asked to
};

// How the run ended, or will.
enum class Outcome : std::uint8_t {
  kNone,
  kDone,            // every rank finished
  kPreempted,       // stopped with everything saved (or nothing to lose): run again
  kStoppedUnsaved,  // stopped, and belay knows of no checkpoint of the last steps
  kFailed,
  kInterrupted,  // killed by a second interrupt
};
std::string_view Name(Outcome outcome);

struct Verdict {
  Outcome outcome = Outcome::kNone;
  int exit_status = 0;
  std::string reason;
};

struct SupervisorState {
  SupervisorConfig config;
  JobState job = JobState::kRenewing;
  base::Generation generation;              // granted last
  std::optional<std::int64_t> resume_step;  // what this generation starts from
  std::vector<RankRecord> ranks;            // by rank
  std::int32_t restarts = 0;
  bool stop_requested = false;
  bool interrupted = false;                      // a SIGINT came: the next one kills
  std::string stop_source;                       // "SIGTERM", "belay stop", "--timeout", "rank 2 left with status 75"
  bool stop_while_settling = false;              // it came after a rank had failed, before that was reported
  base::SteadyTime programs_started{};           // of this generation
  std::optional<base::SteadyTime> terminate_at;  // of a stop: SIGTERM if no rank has attached by then
  std::optional<base::SteadyTime> deadline;      // of the current state
  std::optional<base::SteadyTime> time_limit_at;
  bool mpirun_alive = false;
  std::optional<FailureReport> failure;
  bool will_restart = false;
  bool resume_judged = false;  // this generation's checkpoint: once
  Verdict verdict;

  std::int64_t StepsDone() const;      // furthest rank, this generation
  std::int64_t CommittedStep() const;  // newest known, -1 if none
  bool AnyAttached() const;
};

// When the loop must send a Tick; none: only events matter.
std::optional<base::SteadyTime> NextDeadline(const SupervisorState& state);

}  // namespace belay::launcher
