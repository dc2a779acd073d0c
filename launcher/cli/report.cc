#include <algorithm>
#include <cstdio>

#include "launcher/cli/commands.h"
#include "launcher/run/verdict.h"
#include "runtime/base/pipes.h"
#include "runtime/base/str.h"

namespace belay::launcher {

std::vector<OptionSpec> JobOptions() {
  return {
      {"project", "", "NAME", "the job's project; default: default", "BELAY_PROJECT", false},
      {"data-dir", "", "DIR", "where the run was told to keep its data", "BELAY_DATA_DIR", false},
      {"log-dir", "", "DIR", "where the run was told to keep its logs; default: where the newest run did",
       "BELAY_LOG_DIR", false},
      {"json", "", "", "the result as JSON", "", false},
  };
}

void PrintOut(std::string_view text) {
  std::fflush(stdout);
  base::IgnoreError(base::WriteAll(1, text), "the reader of our stdout has gone: nobody to tell");
}

bool WantsJson(std::span<const std::string> args) {
  const auto options_end = std::ranges::find(args, "--");  // what follows is the program's
  const auto is_json = [](const std::string& word) { return word == "--json" || word == "-json"; };
  return std::ranges::find_if(args.begin(), options_end, is_json) != options_end;
}

int ReportError(const base::Error& error, bool json, std::string_view command) {
  std::string text = base::Str("belay: ", error.Text(), "\n");
  if (error.code == base::Code::kInvalidArgument) text += base::Str("belay: see belay ", command, " --help\n");
  base::IgnoreError(base::WriteAll(2, text), "the reader of our stderr has gone: nobody to tell");
  if (json) PrintOut(EncodeError(error));
  return static_cast<int>(base::Describe(error.code).exit_status);
}

}  // namespace belay::launcher
