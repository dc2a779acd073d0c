// belay: launches and looks after training runs, and gives access to their checkpoints.
#include <cstdio>
#include <string>
#include <vector>

#include "checkpoint/cli/commands.h"
#include "launcher/cli/commands.h"
#include "runtime/base/environment.h"
#include "runtime/base/exit_status.h"
#include "runtime/base/log.h"

namespace {

using namespace belay;

struct Command {
  std::string_view name;
  int (*run)(std::span<const std::string>);
};
constexpr Command kCommands[] = {
    {"run", launcher::RunCommand},           {"explain", launcher::ExplainCommand}, {"stop", launcher::StopCommand},
    {"status", launcher::StatusCommand},     {"logs", launcher::LogsCommand},       {"help", launcher::HelpCommand},
    {"version", launcher::VersionCommand},   {"--help", launcher::HelpCommand},     {"-h", launcher::HelpCommand},
    {"--version", launcher::VersionCommand},
};

}  // namespace

int main(int argc, char** argv) {
  base::IgnoreSigpipe();
  base::IgnoreError(base::StartLogging({.program = "belay", .level = base::LogLevel::kWarning}),
                    "stderr is always there");
  const std::vector<std::string> args(argv + 1, argv + argc);
  if (args.empty()) {
    std::fputs("belay: what shall it do? belay run -n 2 -- PROGRAM starts training; belay help lists all commands\n",
               stderr);
    return static_cast<int>(base::ExitStatus::kUsage);
  }
  if (args[0] == "ckpt") return checkpoint::CkptMain(argc - 1, argv + 1);
  if (args[0] == "daemon") return checkpoint::DaemonMain(argc - 1, argv + 1);
  for (const Command& command : kCommands) {
    if (args[0] == command.name) return command.run(std::span(args).subspan(1));
  }
  std::fprintf(stderr, "belay: no command '%s'. Commands: run explain stop status logs ckpt daemon help version\n",
               args[0].c_str());
  return static_cast<int>(base::ExitStatus::kUsage);
}
