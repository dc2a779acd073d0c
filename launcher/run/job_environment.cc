#include "launcher/run/mpirun_command.h"
#include "launcher/run/run_loop.h"
#include "runtime/base/str.h"

namespace belay::launcher {

using base::Str;

std::map<std::string, std::string> JobEnvironment(const RunOptions& options, const JobVariables& variables,
                                                  const std::map<std::string, std::string>& caller) {
  std::map<std::string, std::string> job = {
      {"BELAY_PROJECT", options.project},
      {"BELAY_JOB", options.job},
      {"BELAY_GENERATION", Str(variables.generation)},
      {"BELAY_SOCKET", variables.socket},
      {"BELAY_DATA_DIR", variables.data_dir},
      {"BELAY_RUN_DIR", variables.run_directory},
      {"BELAY_GRACE_SECONDS", Str(static_cast<std::int64_t>(options.grace_seconds))},
      {"BELAY_RESTART_COUNT", Str(variables.restarts)},
      {"MASTER_ADDR", variables.master_address},
      {"MASTER_PORT", Str(variables.master_port)},
  };
  for (const auto& [name, value] : options.exports) {
    if (value) {
      job[name] = *value;
    } else if (const auto it = caller.find(name); it != caller.end()) {
      job[name] = it->second;
    }
  }
  return job;
}

}  // namespace belay::launcher
