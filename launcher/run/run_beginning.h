// The first words of an attempt: what it begins from. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "launcher/run/run_options.h"
#include "launcher/supervise/supervisor_state.h"

namespace belay::launcher {

// One line without its newline. `suspects`: checkpoints that are passed over (RunGrant::suspects).
std::string BeginningWords(const SupervisorState& state, const RunOptions& options, std::uint32_t suspects,
                           const std::string& logs);

}  // namespace belay::launcher
