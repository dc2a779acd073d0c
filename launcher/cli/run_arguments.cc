#include "launcher/cli/run_arguments.h"

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "checkpoint/client/locate.h"
#include "launcher/allocation/hostfile.h"
#include "launcher/cli/environment_table.h"
#include "launcher/rank/rank_environment.h"
#include "launcher/run/run_directory.h"
#include "runtime/base/environment.h"
#include "runtime/base/file_system.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::Fail;
using base::Str;

constexpr std::int32_t kRanksMax = 65536;
constexpr std::size_t kHostfileSizeMax = 16 * 1024 * 1024;  // PBS writes a line a slot

constexpr OptionSpec kSpecs[] = {
    {"n", "np", "RANKS", "how many ranks; default: one per GPU, or 1", "", false},
    {"N", "npernode", "RANKS", "ranks per node; with one node the same as -n", "", false},
    {"host", "H", "LIST", "hosts as mpirun takes them, localhost:4; only this host for now", "", true},
    {"hostfile", "machinefile", "FILE", "the same from a file", "", false},
    {"x", "", "NAME[=VALUE]", "hand an environment variable to the ranks; may be repeated", "", true},
    {"wdir", "wd", "DIR", "run the program in this folder; default: here", "", false},
    {"mca", "gmca", "KEY VALUE", "pass a parameter to Open MPI; may be repeated", "", true},
    {"tag-output", "", "", "accepted: the output is always tagged with the rank", "", false},
    {"oversubscribe", "", "", "accepted: more ranks than cores are always allowed", "", false},
    {"timeout", "", "TIME", "stop the run (saved, status 75) after 90, 90s, 5m or 2h", "", false},
    {"job", "", "NAME", "the job's name: the same name goes on where it stood; default: a fresh one", "", false},
    {"project", "", "NAME", "the project the job belongs to; default: default", "BELAY_PROJECT", false},
    {"grace", "", "TIME", "time for the last save after a stop; default: 60s", "BELAY_GRACE_SECONDS", false},
    {"max-restarts", "", "COUNT", "restarts after failures; default: 3", "BELAY_MAX_RESTARTS", false},
    {"data-dir", "", "DIR", "where checkpoints live; default: ~/.local/share/belay", "BELAY_DATA_DIR", false},
    {"also-data-dir", "", "DIR", "a folder on another drive, to write to it too; may be repeated", "", true},
    {"socket", "", "PATH", "the belayd to use; default: found, or a private one started", "BELAY_SOCKET", false},
    {"log-dir", "", "DIR", "where run directories go; default: below the data dir", "BELAY_LOG_DIR", false},
    {"launch-timeout", "", "TIME", "how long the ranks may take to come up; default: 60s", "BELAY_LAUNCH_TIMEOUT",
     false},
    {"quiet", "", "", "print the program's output and failures, nothing else", "", false},
    {"progress", "", "WHEN", "the live line: auto (on a terminal), always, never", "BELAY_PROGRESS", false},
    {"json", "", "", "the verdict as JSON on stdout; the program's output goes to stderr", "", false},
    {"dry-run", "", "", "show what would be done and launch nothing, as belay explain does", "", false},
};

// What the ranks are told apart by, and what clean-up finds them by: -x must not change it.
bool IsBelaysOwn(std::string_view name) {
  if (name == kLauncherSocketVariable || name == kScratchVariable) return true;
  constexpr std::string_view kDefaults[] = {"MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "PYTHONUNBUFFERED"};
  return std::ranges::any_of(EnvironmentTable(),
                             [&](const EnvironmentVariable& v) { return v.side == "rank" && v.name == name; }) &&
         std::ranges::find(kDefaults, name) == std::end(kDefaults);
}

// The slots of entries that are all this host.
base::Result<std::int32_t> SlotsHere(const std::vector<HostEntry>& entries, const std::string& host_name) {
  std::int32_t slots = 0;
  for (const HostEntry& entry : entries) {
    if (!IsThisHost(entry.name, host_name)) {
      return Fail(Code::kUnsupported, "host ", entry.name, ": this version launches on one host only (localhost or ",
                  host_name, "); start belay on that host, or leave -H and --hostfile out");
    }
    slots = std::min(kRanksMax, slots + entry.slots);
  }
  return slots;
}

std::string Absolute(const std::string& path, const std::string& from) {
  std::string absolute = path.starts_with('/') ? path : from + "/" + path;
  while (absolute.size() > 1 && absolute.ends_with('/')) absolute.pop_back();
  return absolute;
}

base::Result<std::int32_t> Ranks(const ParsedOptions& parsed, const RunHost& host, AskedHosts& asked) {
  std::optional<std::int32_t> slots;
  if (const auto it = parsed.values.find("host"); it != parsed.values.end()) {
    for (const auto& mention : it->second) {
      BELAY_ASSIGN(const std::int32_t more, SlotsFromHostList(mention.front(), host.host_name));
      slots = std::min(kRanksMax, slots.value_or(0) + more);
      asked.host_lists.push_back(mention.front());
    }
  }
  if (const auto file = parsed.Get("hostfile")) {
    if (slots) return Fail(Code::kInvalidArgument, "give --host or --hostfile, not both");
    asked.hostfile = Absolute(*file, host.working_directory);
    BELAY_ASSIGN(const std::string text, host.read_file(*asked.hostfile));
    BELAY_ASSIGN(slots, SlotsFromHostfile(text, host.host_name));
  }
  std::optional<std::int32_t> per_node;
  if (const auto text = parsed.Get("N")) {
    BELAY_ASSIGN(const std::int64_t count, ParseInteger("-N", *text, 1, kRanksMax));
    per_node = static_cast<std::int32_t>(count);
  }
  if (const auto text = parsed.Get("n")) {
    BELAY_ASSIGN(const std::int64_t count, ParseInteger("-n", *text, 1, kRanksMax));
    if (per_node && count > *per_node) {
      return Fail(Code::kInvalidArgument, "-n ", count, " does not fit -N ", *per_node, " on one node");
    }
    return static_cast<std::int32_t>(count);
  }
  if (per_node) return *per_node;
  if (slots) return *slots;
  return std::max(1, host.gpus);
}

}  // namespace

std::span<const OptionSpec> RunOptionSpecs() { return kSpecs; }

base::Result<std::int32_t> SlotsFromHostList(const std::string& list, const std::string& host_name) {
  BELAY_ASSIGN(const auto entries, ParseHostList(list, {.where = "--host", .slots_max = kRanksMax}));
  return SlotsHere(entries, host_name);
}

base::Result<std::int32_t> SlotsFromHostfile(const std::string& text, const std::string& host_name) {
  BELAY_ASSIGN(const auto entries, ParseHostfile(text, {.where = "the hostfile", .slots_max = kRanksMax}));
  return SlotsHere(entries, host_name);
}

std::string FreshJobName(const std::string& program, base::WallTime now, std::uint64_t random) {
  std::string stem = program.substr(program.rfind('/') + 1);
  for (char& c : stem) {
    const bool fine =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    if (!fine) c = '-';
  }
  stem.resize(std::min<std::size_t>(stem.size(), 64));
  if (stem.empty() || stem[0] == '.' || stem[0] == '-') stem.insert(0, "run");
  const std::time_t seconds =
      std::chrono::system_clock::to_time_t(std::chrono::time_point_cast<std::chrono::system_clock::duration>(now));
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char when[40];
  const std::size_t size = std::strftime(when, sizeof when, "-%Y%m%d-%H%M%S", &parts);
  std::snprintf(when + size, sizeof when - size, "-%04x", static_cast<unsigned>(random & 0xFFFF));
  return stem + when;
}

base::Result<RunArguments> ParseRunArguments(std::span<const std::string> args, const RunHost& host) {
  BELAY_ASSIGN(const ParsedOptions parsed, ParseOptions(kSpecs, args, false, [&](const std::string& name) {
                 const auto it = host.environment.find(name);
                 return it == host.environment.end() ? std::nullopt : std::optional(it->second);
               }));
  RunArguments arguments;
  arguments.help = parsed.help;
  if (parsed.help) return arguments;
  RunOptions& options = arguments.options;
  options.program = parsed.rest;
  if (options.program.empty() || options.program[0].empty()) {
    return Fail(Code::kInvalidArgument, "no program to run: belay run [options] -- program [arguments]");
  }
  BELAY_ASSIGN(options.ranks, Ranks(parsed, host, arguments.asked_hosts));
  if (const auto it = parsed.values.find("x"); it != parsed.values.end()) {
    for (const auto& mention : it->second) {
      const std::string& text = mention.front();
      const std::size_t equals = text.find('=');
      if (text.empty() || equals == 0)
        return Fail(Code::kInvalidArgument, "-x wants NAME or NAME=VALUE, not '", text, "'");
      if (const std::string name = text.substr(0, equals); IsBelaysOwn(name)) {
        return Fail(Code::kInvalidArgument, "-x ", name,
                    ": belay sets this variable for every rank itself (belay help environment); leave it out");
      } else if (std::ranges::any_of(name, [](char c) { return c <= ' ' || c > '~'; })) {
        return Fail(Code::kInvalidArgument, "-x '", name,
                    "': the name of a variable is printable ASCII without blanks");
      }
      options.exports.emplace_back(text.substr(0, equals),
                                   equals == std::string::npos ? std::nullopt : std::optional(text.substr(equals + 1)));
    }
  }
  if (const auto it = parsed.values.find("mca"); it != parsed.values.end()) {
    for (const auto& mention : it->second) options.mca.emplace_back(mention[0], mention[1]);
  }
  options.wdir_given = parsed.Has("wdir");
  options.working_directory = Absolute(parsed.Get("wdir").value_or("."), host.working_directory);
  if (options.working_directory.ends_with("/.")) options.working_directory.resize(options.working_directory.size() - 2);
  if (options.working_directory.empty()) options.working_directory = "/";
  if (const auto text = parsed.Get("timeout")) {
    BELAY_ASSIGN(options.timeout_seconds, ParseSeconds(parsed.Source("timeout"), *text));
  }
  if (const auto text = parsed.Get("grace")) {
    BELAY_ASSIGN(options.grace_seconds, ParseSeconds(parsed.Source("grace"), *text));
  }
  if (const auto text = parsed.Get("launch-timeout")) {
    BELAY_ASSIGN(options.launch_timeout_seconds, ParseSeconds(parsed.Source("launch-timeout"), *text));
  }
  if (const auto text = parsed.Get("max-restarts")) {
    BELAY_ASSIGN(const std::int64_t count, ParseInteger(parsed.Source("max-restarts"), *text, 0, 1'000'000));
    options.max_restarts = static_cast<std::int32_t>(count);
  }
  options.project = parsed.Get("project").value_or("default");
  BELAY_TRY(CheckName(parsed.Source("project"), options.project));
  options.job_named_by_user = parsed.Has("job");
  options.job =
      options.job_named_by_user ? *parsed.Get("job") : FreshJobName(options.program[0], host.now, host.random);
  BELAY_TRY(CheckName("--job", options.job));
  options.data_dir_given = parsed.Has("data-dir");
  BELAY_ASSIGN(options.data_dir, host.resolve_data_dir(parsed.Get("data-dir")));
  if (const auto it = parsed.values.find("also-data-dir"); it != parsed.values.end()) {
    for (const auto& mention : it->second) {
      BELAY_ASSIGN(std::string folder, host.resolve_data_dir(mention.front()));
      options.also_data_dirs.push_back(std::move(folder));
    }
  }
  options.socket = parsed.Get("socket").value_or("");
  if (!options.socket.empty()) options.socket = Absolute(options.socket, host.working_directory);
  options.log_dir = parsed.Get("log-dir").value_or("");
  if (!options.log_dir.empty()) {
    options.log_dir_given = Absolute(options.log_dir, host.working_directory);
    options.log_dir = Str(options.log_dir_given, "/", options.project, "/", options.job);
  }
  options.quiet = parsed.Has("quiet");
  options.json = parsed.Has("json");
  options.dry_run = parsed.Has("dry-run");
  if (const auto when = parsed.Get("progress")) {
    if (*when == "auto")
      options.progress = ProgressMode::kAuto;
    else if (*when == "always")
      options.progress = ProgressMode::kAlways;
    else if (*when == "never")
      options.progress = ProgressMode::kNever;
    else
      return Fail(Code::kInvalidArgument, parsed.Source("progress"), " wants auto, always or never, not '", *when, "'");
  }
  return arguments;
}

RunHost ThisHost() {
  RunHost host;
  host.environment = base::WholeEnvironment();
  host.host_name = base::HostName();
  host.working_directory = base::CurrentDirectory();
  base::FileSystem& files = base::PosixFileSystem();
  while (base::Exists(files, Str("/dev/nvidia", host.gpus))) ++host.gpus;
  host.now = base::SystemClock().WallNow();
  host.random = base::RandomSeed();
  host.resolve_data_dir = [](const std::optional<std::string>& flag) { return checkpoint::ResolveDataDirectory(flag); };
  host.read_file = [&files](const std::string& path) { return base::ReadWholeFile(files, path, kHostfileSizeMax); };
  return host;
}

}  // namespace belay::launcher
