#include "launcher/run/run_beginning.h"

#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;

// "2 suspect checkpoints"
std::string Suspects(std::uint32_t count) {
  return Str(count, count == 1 ? " suspect checkpoint" : " suspect checkpoints");
}

}  // namespace

std::string BeginningWords(const SupervisorState& state, const RunOptions& options, std::uint32_t suspects,
                           const std::string& logs) {
  const bool first = state.restarts == 0;
  std::string from;
  if (state.resume_step) {
    from = Str(first ? "resuming from step " : "from step ", *state.resume_step);
    if (suspects > 0) from += Str(", passing over ", Suspects(suspects));
  } else if (suspects > 0) {
    from = Str("with nothing but ", Suspects(suspects));
  } else {
    from = first ? "fresh start" : "from the beginning";
  }
  if (!first) return Str("restarting as generation ", state.generation, " ", from);
  return Str("job ", options.job, ", generation ", state.generation, ", ", options.ranks,
             options.ranks == 1 ? " rank, " : " ranks, ", from, "; logs in ", logs);
}

}  // namespace belay::launcher
