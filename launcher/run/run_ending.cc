#include "launcher/run/run_ending.h"

#include <charconv>

#include "launcher/run/mpirun_command.h"
#include "launcher/run/progress_line.h"
#include "runtime/base/check.h"
#include "runtime/base/exit_status.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;

// All its digits, and no exponent: what ParseSeconds reads back as the same number.
std::string Seconds(double seconds) {
  char text[400];
  const auto [end, error] = std::to_chars(std::begin(text), std::end(text), seconds, std::chars_format::fixed);
  BELAY_CHECK(error == std::errc(), "a double has more digits than there are");
  return {text, end};
}

const char* Name(ProgressMode mode) {
  switch (mode) {
    case ProgressMode::kAuto:
      return "auto";
    case ProgressMode::kAlways:
      return "always";
    case ProgressMode::kNever:
      return "never";
  }
  return "auto";
}

// The same command line would end the same way: bad options, data or files of the program.
bool WouldFailAgain(int status) {
  return status == static_cast<int>(base::ExitStatus::kUsage) ||
         status == static_cast<int>(base::ExitStatus::kBadData) ||
         status == static_cast<int>(base::ExitStatus::kNoInput) || status == 126 || status == 127;
}

}  // namespace

std::vector<std::string> ResumeCommand(const RunOptions& options) {
  const RunOptions defaults;
  std::vector<std::string> words = {"belay", "run", "-n", Str(options.ranks)};
  const auto add = [&](bool differs, const char* name, const std::string& value) {
    if (differs) words.insert(words.end(), {name, value});
  };
  add(options.project != defaults.project, "--project", options.project);
  add(true, "--job", options.job);
  add(options.data_dir_given, "--data-dir", options.data_dir);
  for (const std::string& also : options.also_data_dirs) add(true, "--also-data-dir", also);
  add(!options.socket.empty(), "--socket", options.socket);
  add(!options.log_dir_given.empty(), "--log-dir", options.log_dir_given);
  add(options.wdir_given, "--wdir", options.working_directory);
  for (const auto& [name, value] : options.exports) add(true, "-x", value ? Str(name, "=", *value) : name);
  for (const auto& [key, value] : options.mca) words.insert(words.end(), {"--mca", key, value});
  add(options.grace_seconds != defaults.grace_seconds, "--grace", Seconds(options.grace_seconds));
  add(options.launch_timeout_seconds != defaults.launch_timeout_seconds, "--launch-timeout",
      Seconds(options.launch_timeout_seconds));
  add(options.max_restarts != defaults.max_restarts, "--max-restarts", Str(options.max_restarts));
  if (options.timeout_seconds) add(true, "--timeout", Seconds(*options.timeout_seconds));
  add(options.progress != defaults.progress, "--progress", Name(options.progress));
  if (options.quiet) words.emplace_back("--quiet");
  if (options.json) words.emplace_back("--json");
  words.emplace_back("--");
  words.insert(words.end(), options.program.begin(), options.program.end());
  return words;
}

std::vector<std::string> EndingWords(const SupervisorState& state, const RunOptions& options,
                                     std::optional<std::int64_t> newest_step, double seconds) {
  const Verdict& verdict = state.verdict;
  const std::string resume = ShellCommand(ResumeCommand(options));
  std::vector<std::string> lines;
  // Without belayd's word, what the ranks said last.
  if (!newest_step && state.CommittedStep() >= 0) newest_step = state.CommittedStep();
  if (verdict.outcome == Outcome::kDone) {
    if (options.quiet) return lines;
    std::string saved;
    if (newest_step) {
      saved = Str("; last checkpoint: step ", *newest_step);
    } else if (state.AnyAttached() && state.StepsDone() > 0) {
      saved = "; nothing was saved";
    }
    lines.push_back(Str("belay: done: ", verdict.reason, saved, " (", HumanDuration(seconds), ")\n"));
    if (!options.job_named_by_user && newest_step) lines.push_back(Str("belay: train further with: ", resume, "\n"));
    return lines;
  }
  if (verdict.outcome != Outcome::kFailed) {
    lines.push_back(Str("belay: ", verdict.reason, " (exit status ", verdict.exit_status, ")\n"));
  } else if (!state.failure) {  // else the report has said it
    lines.push_back(Str("belay: ", verdict.reason, "\n"));
  }
  if (options.quiet) return lines;
  const std::string mended =
      verdict.outcome == Outcome::kFailed && WouldFailAgain(verdict.exit_status) ? "once that is mended, " : "";
  if (newest_step) {
    lines.push_back(
        Str("belay: the newest checkpoint is of step ", *newest_step, "; ", mended, "continue with: ", resume, "\n"));
  } else if (!options.job_named_by_user) {
    lines.push_back(Str("belay: ", mended, "run it again with: ", resume, "\n"));
  }
  return lines;
}

}  // namespace belay::launcher
