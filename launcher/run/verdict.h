// The verdict of an attempt or a run as JSON: verdict.json in the run directory, and stdout with --json.
// The fields are documented in docs/json-output.md. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launcher/supervise/supervisor.h"
#include "runtime/base/clock.h"

namespace belay::launcher {

struct VerdictFacts {
  std::string project, job, run_directory, data_dir, socket;
  std::vector<std::string> program;
  base::WallTime started, ended;
  std::optional<std::int64_t> newest_step;  // committed
  bool restarts = false;                    // this attempt is followed by another
  std::vector<std::string> resume_command;  // empty: none makes sense
};

std::string EncodeVerdict(const SupervisorState& state, const VerdictFacts& facts);
// The same shape for a command that failed before there was a run: {"schema_version", "error": {...}}.
std::string EncodeError(const base::Error& error);

std::string Rfc3339(base::WallTime time);

}  // namespace belay::launcher
