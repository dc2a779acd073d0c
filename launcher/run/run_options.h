// Everything `belay run` can be told, after parsing. See `belay run --help`.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace belay::launcher {

enum class ProgressMode : std::uint8_t { kAuto, kAlways, kNever };

struct RunOptions {
  std::int32_t ranks = 1;
  std::vector<std::pair<std::string, std::optional<std::string>>> exports;  // -x NAME[=VALUE]
  std::vector<std::pair<std::string, std::string>> mca;                     // --mca K V
  std::string working_directory;                                            // absolute
  bool wdir_given = false;
  std::optional<double> timeout_seconds;
  double launch_timeout_seconds = 60;
  double grace_seconds = 60;
  std::int32_t max_restarts = 3;
  std::string project = "default";
  std::string job;
  bool job_named_by_user = false;
  std::string data_dir;  // absolute; the default filled in
  bool data_dir_given = false;
  std::vector<std::string> also_data_dirs;  // absolute; as given
  std::string socket;                       // empty: belay decides
  std::string log_dir;                      // of this job; empty: below the data dir
  std::string log_dir_given;                // --log-dir itself, absolute
  bool quiet = false;
  ProgressMode progress = ProgressMode::kAuto;
  bool json = false;
  bool dry_run = false;
  std::vector<std::string> program;
};

}  // namespace belay::launcher
