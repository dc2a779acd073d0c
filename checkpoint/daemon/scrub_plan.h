// What the scrubber reads next, and when. Pure: the service asks, a worker reads, the service tells how it went.
//
// Committed checkpoints are read file by file, jobs by name, checkpoints from the oldest. A pass begins when the last
// one began `every` ago, on the wall clock, and goes on after a restart where it was: the position is stored after each
// file. What is quarantined already is passed over. Nothing is begun while a snapshot or a restore is under way.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "checkpoint/commit/events.h"
#include "checkpoint/commit/state.h"
#include "checkpoint/commit/types.h"
#include "runtime/base/clock.h"
#include "runtime/base/result.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {

struct ScrubOptions {
  std::uint64_t bytes_per_second = 32 * base::kMiB;  // 0: off
  base::Duration every = std::chrono::hours(24);
  base::Duration first_after = std::chrono::seconds(60);  // of the daemon's start: a start has other things to read
};

// The last file that was read.
struct ScrubPosition {
  commit::JobKey job;
  commit::CheckpointId id;
  std::string file;          // by name; empty: none of this checkpoint yet
  bool is_finished = false;  // all of them
};

// What a restart must know; times in seconds since 1970. Counts are of the pass under way, else of the last one.
struct ScrubProgress {
  bool under_way = false;
  std::int64_t began_unix = 0, ended_unix = 0;  // 0: never
  ScrubPosition position;
  std::uint64_t files = 0, bytes = 0, damaged = 0, unreadable = 0;
};
std::string EncodeScrubProgress(const ScrubProgress& progress);
// One that does not decode is as good as none: a new pass begins.
ScrubProgress DecodeScrubProgress(std::string_view text);

struct ScrubOrder {  // check the first file of the checkpoint whose name comes after `after`
  commit::JobKey job;
  commit::CheckpointId id;
  std::string after;
};
struct ScrubResult {
  ScrubOrder order;
  std::string file;  // empty: there was none left
  std::uint64_t bytes = 0;
  std::optional<base::Error> error;  // kCorrupt, kIncomplete: damage; else it could not be read
  bool is_given_up = false;          // the daemon leaves: it was not read to its end
};
bool IsDamage(const base::Error& error);

// Is anybody saving or restoring, so that reading must wait?
bool ScrubMustPause(const commit::State& state);

class ScrubPlan {
 public:
  ScrubPlan(const ScrubOptions& options, ScrubProgress progress, base::SteadyTime now);

  // What to read now; none: nothing is due, or something is being read. Begins and ends passes.
  std::optional<ScrubOrder> Next(const commit::State& state, base::SteadyTime now, base::WallTime wall);
  // Takes in how an order went; what the core must hear of it.
  std::optional<commit::DamageFound> Finished(const ScrubResult& result);
  // When to ask for the next order at the latest, if nothing else happens.
  std::optional<base::SteadyTime> Wake(base::SteadyTime now, base::WallTime wall) const;

  const ScrubProgress& progress() const { return progress_; }
  const ScrubOptions& options() const { return options_; }

 private:
  bool PassIsDue(base::WallTime wall) const;
  std::optional<ScrubOrder> After(const commit::State& state) const;

  const ScrubOptions options_;
  ScrubProgress progress_;
  const base::SteadyTime start_;
  bool is_reading_ = false;
};

}  // namespace belay::checkpoint
