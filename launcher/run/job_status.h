// What a run tells `belay status` of itself, and ranks' progress to and from the wire. Pure.
#pragma once

#include <cstdint>
#include <string>

#include "launcher/protocol/rank.pb.h"
#include "launcher/run/run_options.h"
#include "launcher/supervise/supervisor_state.h"

namespace belay::launcher {

RankProgress FromWire(const wire::Progress& wire);
void ToWire(const RankProgress& progress, wire::Progress& wire);

wire::JobStatus MakeJobStatus(const SupervisorState& state, const RunOptions& options, const std::string& run_directory,
                              double running_seconds, std::int32_t launcher_pid);

}  // namespace belay::launcher
