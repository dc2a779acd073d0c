// From `belay run`'s words to RunOptions: parsing, defaults, checks. Pure but for what `Host` says.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "launcher/allocation/detect.h"
#include "launcher/cli/options.h"
#include "launcher/run/run_options.h"
#include "runtime/base/clock.h"
#include "runtime/base/result.h"

namespace belay::launcher {

std::span<const OptionSpec> RunOptionSpecs();

// What the defaults depend on.
struct RunHost {
  std::map<std::string, std::string> environment;
  std::string host_name;
  std::string working_directory;
  int gpus = 0;
  base::WallTime now;
  std::uint64_t random = 0;  // for a fresh job name
  std::function<base::Result<std::string>(const std::optional<std::string>&)> resolve_data_dir;
  std::function<base::Result<std::string>(const std::string&)> read_file;  // hostfiles, whoever names them
};
RunHost ThisHost();

struct RunArguments {
  RunOptions options;
  AskedHosts asked_hosts;
  bool help = false;
};
// kInvalidArgument with what is wrong and what would be right.
base::Result<RunArguments> ParseRunArguments(std::span<const std::string> args, const RunHost& host);

// "<program>-<yyyymmdd-hhmmss>-<4 hex>"
std::string FreshJobName(const std::string& program, base::WallTime now, std::uint64_t random);

// Slots on this host that -H or a hostfile grants; kUnsupported for other hosts. launcher/allocation/hostfile.h has the
// syntax.
base::Result<std::int32_t> SlotsFromHostList(const std::string& list, const std::string& host_name);
base::Result<std::int32_t> SlotsFromHostfile(const std::string& text, const std::string& host_name);

}  // namespace belay::launcher
