// How stop, status and logs find a run: its folder, its launcher if one is alive, its last verdict.
#pragma once

#include <optional>
#include <string>

#include "launcher/cli/options.h"
#include "launcher/protocol/messages.h"
#include "launcher/run/run_directory.h"
#include "runtime/base/result.h"

namespace belay::launcher {

struct JobAccess {
  std::string data_dir, project, log_dir;
};
base::Result<JobAccess> OpenJobs(const ParsedOptions& parsed);

// The job's folder, there or not. Without --log-dir its attempts are looked for where the newest one is.
JobFolder FolderOf(const JobAccess& access, const std::string& job);
// The same; kNotFound lists the jobs there are.
base::Result<JobFolder> FindJob(const JobAccess& access, const std::string& job);

// One question to the job's launcher. kNotFound if none runs; a launcher.json without a launcher counts as none, and
// `stale` says so.
base::Result<wire::FromLauncher> AskLauncher(const JobFolder& folder, const wire::ToLauncher& question, bool* stale);

}  // namespace belay::launcher
