// The last words of a run: how it ended, and the command that goes on. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launcher/run/run_options.h"
#include "launcher/supervise/supervisor_state.h"

namespace belay::launcher {

// The command that goes on with this job: --job, and every option that is not the default.
std::vector<std::string> ResumeCommand(const RunOptions& options);

// Lines for stderr, each with its newline. `newest_step`: the newest committed checkpoint, as far as belayd could say.
std::vector<std::string> EndingWords(const SupervisorState& state, const RunOptions& options,
                                     std::optional<std::int64_t> newest_step, double seconds);

}  // namespace belay::launcher
