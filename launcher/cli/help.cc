// belay help, belay version
#include <nlohmann/json.hpp>

#include "checkpoint/cli/commands.h"
#include "launcher/cli/commands.h"
#include "launcher/cli/environment_table.h"
#include "runtime/base/exit_status.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;

constexpr std::string_view kOverview =
    "belay launches distributed training and keeps its state safe.\n"
    "\n"
    "  belay run [options] -- program args   run a program on every rank\n"
    "  belay explain [options] -- program    show what run would do\n"
    "  belay status [JOB]                    what runs, and how runs ended\n"
    "  belay logs JOB                        what the ranks wrote\n"
    "  belay stop JOB                        finish the step, save, leave\n"
    "  belay ckpt ...                        list, show, inspect, verify, pin, remove, export\n"
    "  belay daemon ...                      start, stop, restart the checkpoint service; its status\n"
    "  belay help exit-statuses|environment  tables\n"
    "  belay version\n"
    "\n"
    "Every command explains itself with --help; all but help answer in JSON with --json.\n"
    "\n"
    "First run:  belay run -n 2 -- python3 -c 'import os; print(os.environ[\"RANK\"])'\n";

std::string ExitStatuses() {
  std::string text =
      "Exit statuses of belay's programs. A run whose rank failed exits with that rank's own status (128 + N for "
      "signal N),\n"
      "which can meet the numbers here; the JSON verdict names both.\n\n";
#define BELAY_X(number, name, meaning) text += Str("  ", number < 10 ? " " : "", number, "   ", meaning, "\n");
  BELAY_EXIT_STATUSES(BELAY_X)
#undef BELAY_X
  text +=
      "  126   the program exists but cannot be executed\n"
      "  127   the program, or the folder of --wdir, does not exist\n"
      "  130   killed by a second Ctrl-C or belay stop --now\n"
      "  128+N a rank was killed by signal N\n";
  return text;
}

}  // namespace

int HelpCommand(std::span<const std::string> args) {
  if (args.empty() || args[0] == "--help") {
    PrintOut(kOverview);
    return 0;
  }
  if (args.size() == 1 && (args[0] == "exit-statuses" || args[0] == "exit-status")) {
    PrintOut(ExitStatuses());
    return 0;
  }
  if (args.size() == 1 && args[0] == "environment") {
    PrintOut(RenderEnvironmentTable());
    return 0;
  }
  const std::vector<std::string> help = {"--help"};
  if (args[0] == "run") return RunCommand(help);
  if (args[0] == "explain") return ExplainCommand(help);
  if (args[0] == "stop") return StopCommand(help);
  if (args[0] == "status") return StatusCommand(help);
  if (args[0] == "logs") return LogsCommand(help);
  if (args[0] == "ckpt" || args[0] == "daemon") {
    std::string words[] = {std::string(args[0]), "--help"};
    char* argv[] = {words[0].data(), words[1].data(), nullptr};
    return args[0] == "ckpt" ? checkpoint::CkptMain(2, argv) : checkpoint::DaemonMain(2, argv);
  }
  return ReportError(base::Error{base::Code::kInvalidArgument,
                                 Str("no help on '", args[0],
                                     "'. Topics: run explain stop status logs ckpt daemon exit-statuses environment"),
                                 nullptr},
                     WantsJson(args), "help");
}

int VersionCommand(std::span<const std::string> args) {
  if (WantsJson(args)) {
    PrintOut(nlohmann::json{{"schema_version", 1}, {"version", BELAY_VERSION}}.dump(2) + "\n");
  } else {
    PrintOut(Str("belay ", BELAY_VERSION, "\n"));
  }
  return 0;
}

}  // namespace belay::launcher
