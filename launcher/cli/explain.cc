// belay explain: what belay run would do, without doing it.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoint/client/locate.h"
#include "launcher/allocation/detect.h"
#include "launcher/cli/commands.h"
#include "launcher/cli/explain_allocation.h"
#include "launcher/cli/run_arguments.h"
#include "launcher/rank/rank_environment.h"
#include "launcher/run/attempt.h"
#include "launcher/run/mpirun_command.h"
#include "launcher/run/run_directory.h"
#include "launcher/run/run_loop.h"
#include "runtime/base/environment.h"
#include "runtime/base/host.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;
using nlohmann::json;

constexpr std::string_view kUsage =
    "belay explain [options of belay run] [--] program [arguments]\n"
    "\n"
    "Shows the hosts that a batch system or an option grants, where each rank would run, its environment, the mpirun\n"
    "command, the data folder, the belayd and the checkpoint the run would start from. Launches nothing and starts no\n"
    "daemon.\n"
    "\n"
    "Examples:\n"
    "  belay explain -n 4 --job gpt -- ./train_gpt\n"
    "  belay explain --json -n 2 -- python3 train.py\n"
    "\n";

struct Plan {
  std::string socket, daemon, resume;
  std::optional<std::int64_t> resume_step;
  std::vector<std::string> command;
  std::map<std::string, std::string> job;                 // the same on every rank
  std::vector<std::map<std::string, std::string>> ranks;  // what differs
};

Plan MakePlan(const RunOptions& options, const RunHost& host) {
  Plan plan;
  const checkpoint::LocateRequest request{
      .data_dir = options.data_dir_given ? std::optional(options.data_dir) : std::nullopt,
      .socket = options.socket.empty() ? std::nullopt : std::optional(options.socket)};
  if (const auto located = checkpoint::ConnectToDaemon(request)) {
    plan.socket = located->socket;
    plan.daemon = Str("answers on ", located->socket, ", data in ", located->data_dir);
    const auto points = located->client->RestorePoints({options.project, options.job});
    if (points && !points->empty()) {
      plan.resume_step = points->front().step.value();
      plan.resume = Str("step ", *plan.resume_step, points->front().in_memory ? " (in memory)" : " (on disk)");
    } else {
      plan.resume = "nothing saved: fresh start";
    }
  } else {
    if (!options.socket.empty()) {
      plan.socket = options.socket;
      plan.daemon = Str("none answers on ", options.socket, ": the run would fail");
    } else {
      if (const auto path = checkpoint::PrivateSocketPath(options.data_dir)) plan.socket = *path;
      plan.daemon = Str("none answers: a private one would be started for ", options.data_dir);
    }
    plan.resume = "known once belayd runs (belay ckpt list shows the checkpoints)";
  }
  const auto shim = FindShim(base::PosixFileSystem());
  plan.command = MpirunCommand({.ranks = options.ranks,
                                .shim = shim ? *shim : "belay-rank",
                                .scratch_directory = "<private folder>",
                                .memory_directory = "<folder in /dev/shm>",
                                .mca = options.mca});
  const JobFolder folder = MakeJobFolder(options.data_dir, options.project, options.job, options.log_dir);
  plan.job = JobEnvironment(
      options,
      {.socket = plan.socket, .data_dir = options.data_dir, .run_directory = folder.attempts_path + "/gen-<g>"},
      host.environment);
  plan.job["MASTER_PORT"] = "<free port>";
  plan.job["BELAY_GENERATION"] = "<g>";
  std::map<std::string, std::string> inherited;
  for (const char* name : {"OMP_NUM_THREADS", "PYTHONUNBUFFERED"}) {
    if (const auto it = host.environment.find(name); it != host.environment.end()) inherited.emplace(name, it->second);
  }
  for (std::int32_t rank = 0; rank < options.ranks; ++rank) {
    plan.ranks.push_back(MakeRankEnvironment(inherited, {},
                                             {.rank = rank,
                                              .local_rank = rank,
                                              .world_size = options.ranks,
                                              .local_world_size = options.ranks,
                                              .node_rank = 0},
                                             base::CoreCount()));
  }
  return plan;
}

}  // namespace

int ExplainCommand(std::span<const std::string> args) {
  const bool json_wanted = WantsJson(args);
  const RunHost host = ThisHost();
  const auto arguments = ParseRunArguments(args, host);
  if (!arguments) return ReportError(arguments.error(), json_wanted, "explain");
  if (arguments->help) {
    PrintOut(Str(kUsage, "Options:\n", RenderOptions(RunOptionSpecs())));
    return 0;
  }
  const RunOptions& options = arguments->options;
  const Plan plan = MakePlan(options, host);
  const auto allocation = DetectAllocation(arguments->asked_hosts, {.environment = host.environment,
                                                                    .host_name = host.host_name,
                                                                    .gpus = host.gpus,
                                                                    .cores = base::CoreCount(),
                                                                    .read_file = host.read_file});
  const JobFolder folder = MakeJobFolder(options.data_dir, options.project, options.job, options.log_dir);
  if (options.json) {
    json document = {{"schema_version", 1},
                     {"project", options.project},
                     {"job", options.job},
                     {"world_size", options.ranks},
                     {"data_dir", options.data_dir},
                     {"also_data_dirs", options.also_data_dirs},
                     {"socket", plan.socket},
                     {"daemon", plan.daemon},
                     {"resume_step", plan.resume_step ? json(Str(*plan.resume_step)) : json(nullptr)},
                     {"run_directory", folder.attempts_path},
                     {"working_directory", options.working_directory},
                     {"mpirun_command", plan.command},
                     {"program", options.program},
                     {"grace_seconds", options.grace_seconds},
                     {"max_restarts", options.max_restarts},
                     {"environment", plan.job},
                     {"ranks", json::array()}};
    AddAllocation(allocation, document);
    for (std::int32_t rank = 0; rank < options.ranks; ++rank) {
      document["ranks"].push_back({{"rank", rank},
                                   {"host", host.host_name},
                                   {"local_rank", rank},
                                   {"cores", base::CoreCount()},
                                   {"environment", plan.ranks[rank]}});
    }
    PrintOut(document.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
    return 0;
  }
  std::string text;
  const auto line = [&](std::string_view name, const std::string& value) {
    text += Str(name, std::string(14 - name.size(), ' '), value, "\n");
  };
  line("job", Str(options.project, "/", options.job,
                  options.job_named_by_user ? "" : "  (a fresh name; --job NAME goes on with a job)"));
  line("program", ShellCommand(options.program));
  line("folder", options.working_directory);
  line("data", options.data_dir);
  for (const std::string& also : options.also_data_dirs) line("also", also);
  line("belayd", plan.daemon);
  line("resume", plan.resume);
  line("logs", folder.attempts_path + "/gen-<g>/");
  line("stop", Str("grace ", options.grace_seconds, " s, up to ", options.max_restarts, " restarts after failures"));
  for (const auto& [name, value] : AllocationLines(allocation, host.host_name)) line(name, value);
  text += "\nranks\n";
  for (std::int32_t rank = 0; rank < options.ranks; ++rank) {
    text += Str("  ", rank, "  on ", host.host_name, ", local rank ", rank, ", ", base::CoreCount(),
                " cores shared by ", options.ranks, options.ranks == 1 ? " rank" : " ranks", ", OMP_NUM_THREADS ",
                plan.ranks[rank].at("OMP_NUM_THREADS"), "\n");
  }
  text += "\nenvironment of every rank\n";
  for (const auto& [name, value] : plan.job) text += Str("  ", name, "=", value, "\n");
  text += "  RANK, LOCAL_RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, GROUP_RANK, BELAY_CONTROL_FD  per rank\n";
  text += Str("\nmpirun\n  ", ShellCommand(plan.command), "\n");
  PrintOut(text);
  return 0;
}

}  // namespace belay::launcher
