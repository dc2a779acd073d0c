// belay run
#include <algorithm>

#include "launcher/cli/commands.h"
#include "launcher/cli/run_arguments.h"
#include "launcher/run/run_loop.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

constexpr std::string_view kUsage =
    "belay run [options] [--] program [arguments]\n"
    "\n"
    "Runs the program on every rank, keeps its checkpoints, restarts it when a rank dies, and stops it with "
    "everything\n"
    "saved on SIGTERM, SIGUSR1, SIGUSR2, SIGHUP, Ctrl-C or belay stop (exit status 75: run it again). A second Ctrl-C\n"
    "kills. Program and arguments are those of a libbelay program or any other, such as python3 script.py.\n"
    "\n";
constexpr std::string_view kExamples =
    "\n"
    "Examples:\n"
    "  belay run -n 2 -- ./train_gpt --data corpus.txt        two ranks, a fresh job\n"
    "  belay run -n 2 --job gpt -- ./train_gpt --data c.txt   a named job: run it again to go on\n"
    "  belay run -n 4 -x NCCL_DEBUG=INFO --grace 5m -- python3 train.py\n"
    "  belay run --json -n 2 -- ./train > verdict.json        the end as JSON\n"
    "\n"
    "See also: belay help exit-statuses, belay help environment.\n";

}  // namespace

int RunCommand(std::span<const std::string> args) {
  // Before the first thread, so that every thread holds these signals back.
  auto signals = WatchRunSignals();
  const bool json = WantsJson(args);
  if (!signals) return ReportError(signals.error(), json, "run");
  const auto arguments = ParseRunArguments(args, ThisHost());
  if (!arguments) return ReportError(arguments.error(), json, "run");
  if (arguments->help) {
    PrintOut(base::Str(kUsage, "Options:\n", RenderOptions(RunOptionSpecs()), kExamples));
    return 0;
  }
  if (arguments->options.dry_run) return ExplainCommand(args);
  const auto status = RunJob(arguments->options, *signals);
  if (!status) return ReportError(status.error(), arguments->options.json, "run");
  return *status;
}

}  // namespace belay::launcher
