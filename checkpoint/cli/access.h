// How a command gets at checkpoints: through belayd where one answers, else by reading the files, else (for changes)
// through a private belayd started for the purpose.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/cli/arguments.h"
#include "checkpoint/client/client.h"
#include "checkpoint/client/restorer.h"

namespace belay::checkpoint::cli {

// The options that every command shares: --data-dir, --socket, --project, --json, --help.
std::vector<OptionSpec> CommonOptions();

struct Access {
  std::string data_dir;
  std::string project;
  bool all_projects = false;       // no --project and no BELAY_PROJECT: listings show all
  std::unique_ptr<Client> client;  // none: offline, the files are read directly
  struct Unreadable {
    std::string directory;
    base::Error error;
  };
  std::vector<Unreadable> unreadable;  // by ListAll, offline: folders whose manifest does not decode, or is another's
};

enum class Need {
  kLook,    // a daemon if one answers; else the files, and stderr says so
  kChange,  // a daemon, started privately if none answers
};
base::Result<Access> OpenAccess(const Arguments& arguments, Need need);

struct Listed {
  CheckpointInfo info;
  std::optional<bool> pinned;  // none: only belayd knows, and it was not asked
};
// Newest first within a job, jobs by name. Empty project or job: all. Offline, a folder whose manifest does not decode
// is left out and said on stderr.
base::Result<std::vector<Listed>> ListAll(Access& access, const std::string& project, const std::string& job);

// Folders that belong to no entry of `listed`, because their manifest does not decode or is another checkpoint's.
// belayd's catalogue leaves such folders out, so the files are read also if it answers; those of other users may be
// closed to us.
std::vector<Access::Unreadable> FindUnreadable(const Access& access, const std::string& project, const std::string& job,
                                               const std::vector<Listed>& listed);

// JOB [STEP] [--generation G] to one committed checkpoint: STEP absent or "latest" is the newest. kNotFound says what
// there is.
base::Result<Listed> Find(Access& access, const std::string& job, const std::optional<std::string>& step,
                          std::optional<std::int64_t> generation);

base::Result<std::unique_ptr<Restorer>> OpenFiles(Access& access, const Listed& checkpoint);

}  // namespace belay::checkpoint::cli
