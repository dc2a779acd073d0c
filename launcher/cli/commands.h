// The commands of `belay`, one file each. Each gets the words after its name and answers the exit status; stdout gets
// the result, stderr everything else.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "launcher/cli/options.h"
#include "runtime/base/result.h"

namespace belay::launcher {

int RunCommand(std::span<const std::string> args);
int ExplainCommand(std::span<const std::string> args);
int StopCommand(std::span<const std::string> args);
int StatusCommand(std::span<const std::string> args);
int LogsCommand(std::span<const std::string> args);
int HelpCommand(std::span<const std::string> args);
int VersionCommand(std::span<const std::string> args);

// For the commands that look at jobs: --project, --data-dir, --log-dir and --json.
std::vector<OptionSpec> JobOptions();

// Whether --json is among the options, also when they do not parse.
bool WantsJson(std::span<const std::string> args);
// Says the error (as JSON on stdout too, if asked) and answers its exit status. `usage`: where help is.
int ReportError(const base::Error& error, bool json, std::string_view command);
void PrintOut(std::string_view text);

}  // namespace belay::launcher
