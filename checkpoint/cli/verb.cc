#include "checkpoint/cli/verb.h"

#include <algorithm>

#include "checkpoint/cli/commands.h"
#include "checkpoint/cli/output.h"
#include "runtime/base/environment.h"
#include "runtime/base/exit_status.h"

namespace belay::checkpoint {
namespace cli {
namespace {

constexpr int kUsage = static_cast<int>(base::ExitStatus::kUsage);

std::string GroupHelp(const std::string& group, const std::string& purpose, const std::vector<Verb>& verbs) {
  std::string text = base::Str("Usage: ", group, " COMMAND [OPTIONS]\n\n", purpose, "\n\nCommands:\n");
  std::size_t width = 0;
  for (const Verb& verb : verbs) width = std::max(width, verb.name.size());
  for (const Verb& verb : verbs) {
    text += "  " + verb.name + std::string(width - verb.name.size() + 2, ' ') + verb.summary + "\n";
  }
  return text + "\n`" + group + " COMMAND --help` explains one. Exit statuses: 0 done, 64 usage, 65 damaged data, " +
         "66 no such thing,\n69 no belayd, 73 cannot create, 74 I/O, 75 busy: try again, 77 not allowed.\n";
}

}  // namespace

std::vector<OptionSpec> WithCommon(std::vector<OptionSpec> options) {
  for (OptionSpec& option : CommonOptions()) options.push_back(std::move(option));
  return options;
}

int RunVerbs(const std::string& group, const std::string& purpose, const std::vector<Verb>& verbs, int argc,
             char** argv) {
  base::IgnoreSigpipe();
  const std::vector<std::string> words(argv + std::min(argc, 1), argv + argc);
  const bool json = std::find(words.begin(), words.end(), "--json") != words.end();
  if (words.empty() || words.front() == "--help" || words.front() == "-h" || words.front() == "help") {
    if (!words.empty()) {
      Print(GroupHelp(group, purpose, verbs));
      return 0;
    }
    std::fputs(GroupHelp(group, purpose, verbs).c_str(), stderr);
    return kUsage;
  }
  const auto verb =
      std::find_if(verbs.begin(), verbs.end(), [&](const Verb& each) { return each.name == words.front(); });
  if (verb == verbs.end()) {
    std::vector<std::string> known;
    for (const Verb& each : verbs) known.push_back(each.name);
    const auto nearest = NearestName(words.front(), known);
    return Report(
        {base::Code::kInvalidArgument,
         base::Str(group, " has no command ", words.front(),
                   nearest ? base::Str(": did you mean ", *nearest, "?") : std::string(), "; see `", group, " --help`"),
         nullptr},
        json);
  }
  auto arguments = Arguments::Parse(verb->spec, {words.begin() + 1, words.end()});
  if (!arguments) return Report(arguments.error(), json);
  if (arguments->Has("help")) {
    Print(HelpText(verb->spec));
    return 0;
  }
  auto status = verb->run(*arguments);
  if (!status) return Report(status.error(), json);
  return *status;
}

}  // namespace cli

int CkptMain(int argc, char** argv) {
  using namespace cli;  // NOLINT: the list below reads better
  return RunVerbs(
      "belay ckpt", "Looks at, checks and looks after a job's checkpoints.",
      {ListVerb(), ShowVerb(), InspectVerb(), VerifyVerb(), DuVerb(), PinVerb(), UnpinVerb(), QuarantineVerb(),
       UnquarantineVerb(), TrustVerb(), RemoveVerb(), ExportVerb(), ReindexVerb(), BenchVerb()},
      argc, argv);
}

int DaemonMain(int argc, char** argv) {
  using namespace cli;  // NOLINT
  return RunVerbs("belay daemon", "Starts, stops and asks belayd, the service that keeps checkpoints on this machine.",
                  {DaemonStartVerb(), DaemonStopVerb(), DaemonRestartVerb(), DaemonStatusVerb()}, argc, argv);
}

}  // namespace belay::checkpoint
