#include "launcher/run/mpirun_command.h"

#include <algorithm>

#include "launcher/rank/rank_environment.h"
#include "runtime/base/str.h"

namespace belay::launcher {

using base::Str;

std::vector<std::string> MpirunCommand(const MpirunRequest& request) {
  std::vector<std::string> argv = {"mpirun", "--bind-to", "none", "--oversubscribe", "-n", Str(request.ranks)};
  const std::vector<std::pair<std::string, std::string>> ours = {
      // On this host, whatever a batch system has allocated and a hostfile of the installation names: ranks find belay
      // through a socket here.
      {"plm", "isolated"},
      {"ras", "^slurm,tm,lsf,loadleveler,gridengine,alps"},
      {"orte_default_hostfile", "none"},
      // A node that vanishes is noticed in about a minute instead of ten.
      {"oob_tcp_keepalive_time", "20"},
      {"oob_tcp_keepalive_intvl", "5"},
      {"oob_tcp_keepalive_probes", "8"},
      {"orte_tmpdir_base", request.scratch_directory},
      {"btl_vader_backing_directory", request.memory_directory},
  };
  for (const auto& [key, value] : ours) {
    if (std::ranges::any_of(request.mca, [&key = key](const auto& user) { return user.first == key; })) continue;
    argv.insert(argv.end(), {"--mca", key, value});
  }
  for (const auto& [key, value] : request.mca) argv.insert(argv.end(), {"--mca", key, value});
  for (const char* name : {kLauncherSocketVariable, kAttemptVariable, kScratchVariable})
    argv.insert(argv.end(), {"-x", name});
  argv.push_back(request.shim);
  return argv;
}

std::map<std::string, std::string> MpirunEnvironment(std::map<std::string, std::string> caller,
                                                     const AttemptNames& names, bool as_root) {
  // Started from inside a rank of another mpirun, ours would take itself for a part of that one.
  std::erase_if(caller, [](const auto& entry) {
    return std::ranges::any_of(
        std::initializer_list<std::string_view>{"PMIX_", "OMPI_COMM_WORLD_", "OMPI_UNIVERSE_", "OMPI_MCA_orte_",
                                                "OMPI_MCA_ess", "OMPI_MCA_pmix", "OMPI_APP_", "OMPI_FIRST_RANKS",
                                                "OMPI_FILE_LOCATION"},
        [&](std::string_view prefix) { return entry.first.starts_with(prefix); });
  });
  caller[kLauncherSocketVariable] = names.socket;
  caller[kAttemptVariable] = names.mark;
  caller[kScratchVariable] = names.scratch_directory + ":" + names.memory_directory;
  if (as_root) {
    caller["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
    caller["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  }
  return caller;
}

std::string ShellCommand(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    if (!text.empty()) text += ' ';
    const bool plain = !word.empty() && word.find_first_not_of(
                                            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                            "0123456789_-+=.,/:@%") == std::string::npos;
    if (plain) {
      text += word;
      continue;
    }
    text += '\'';
    for (const char c : word) {
      if (c == '\'')
        text += "'\\''";
      else
        text += c;
    }
    text += '\'';
  }
  return text;
}

}  // namespace belay::launcher
