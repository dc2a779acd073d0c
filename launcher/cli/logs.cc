// belay logs
#include <algorithm>
#include <nlohmann/json.hpp>
#include <regex>

#include "launcher/cli/commands.h"
#include "launcher/cli/job_access.h"
#include "launcher/rank/output_lines.h"
#include "launcher/run/console.h"
#include "runtime/base/clock.h"
#include "runtime/base/environment.h"
#include "runtime/base/str.h"
#include "runtime/base/units.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::Fail;
using base::Str;
using nlohmann::json;

constexpr std::string_view kUsage =
    "belay logs JOB [options]\n"
    "\n"
    "Prints what the ranks of a job wrote in its newest run, rank by rank; with -f as it comes.\n"
    "\n";
constexpr std::string_view kExamples =
    "\n"
    "Examples:\n"
    "  belay logs gpt --tail 20\n"
    "  belay logs gpt --rank 1 -f\n"
    "  belay logs gpt --grep 'loss|error' --generation 3\n";

struct RankLogFile {
  std::int32_t rank = 0;
  std::string path;
  std::uint64_t offset = 0;
  LineCutter cutter;
};

// The bytes of a file from `offset`, at most 1 MiB; moves the offset on.
std::string ReadMore(base::FileSystem& files, RankLogFile& log) {
  std::string bytes;
  auto file = files.Open(log.path, {});
  if (!file) return bytes;
  bytes.resize(base::kMiB);
  const auto got = (*file)->ReadAt(log.offset, std::as_writable_bytes(std::span(bytes)));
  bytes.resize(got ? *got : 0);
  log.offset += bytes.size();
  return bytes;
}

class Filter {
 public:
  explicit Filter(std::optional<std::regex> pattern) : pattern_(std::move(pattern)) {}
  // The lines that match, each with its newline.
  std::string Keep(std::string_view whole_lines) const {
    if (!pattern_) return std::string(whole_lines);
    std::string kept;
    while (!whole_lines.empty()) {
      const std::size_t newline = whole_lines.find('\n');
      const std::string_view line = whole_lines.substr(0, newline);
      whole_lines.remove_prefix(newline == std::string_view::npos ? whole_lines.size() : newline + 1);
      // libstdc++'s matcher recurses once a character; a longer line could overflow the stack.
      const std::string_view looked_at = line.substr(0, 4096);
      if (std::regex_search(looked_at.begin(), looked_at.end(), *pattern_)) kept += Str(line, "\n");
    }
    return kept;
  }

 private:
  std::optional<std::regex> pattern_;
};

void Print(const RankLogFile& log, const std::string& lines, bool as_json) {
  if (lines.empty()) return;
  if (!as_json) return PrintOut(TagLines(log.rank, lines));
  std::string text;
  std::string_view rest = lines;
  while (!rest.empty()) {
    const std::size_t newline = rest.find('\n');
    text += json{{"rank", log.rank}, {"line", std::string(rest.substr(0, newline))}}.dump(
                -1, ' ', false, json::error_handler_t::replace) +
            "\n";
    rest.remove_prefix(newline == std::string_view::npos ? rest.size() : newline + 1);
  }
  PrintOut(text);
}

std::string LastOf(const std::string& lines, std::int64_t count) {
  std::size_t from = lines.size();
  for (std::int64_t i = 0; i <= count && from != std::string::npos; ++i) {
    if (from == 0) return lines;
    from = lines.rfind('\n', from - 1);
  }
  return from == std::string::npos ? lines : lines.substr(from + 1);
}

base::Status RunLogs(const ParsedOptions& parsed, bool as_json) {
  if (parsed.rest.size() != 1) return Fail(Code::kInvalidArgument, "belay logs wants one job's name");
  BELAY_ASSIGN(const JobAccess access, OpenJobs(parsed));
  BELAY_ASSIGN(const JobFolder folder, FindJob(access, parsed.rest[0]));
  base::FileSystem& files = base::PosixFileSystem();
  const std::vector<base::Generation> attempts = ListAttempts(files, folder);
  if (attempts.empty())
    return Fail(Code::kNotFound, "job ", parsed.rest[0], " has no run directory in ", folder.attempts_path);
  base::Generation generation = attempts.back();
  if (const auto text = parsed.Get("generation")) {
    BELAY_ASSIGN(const std::int64_t wanted, ParseInteger("--generation", *text, 1, INT64_MAX));
    generation = base::Generation(static_cast<std::uint64_t>(wanted));
    if (std::ranges::find(attempts, generation) == attempts.end()) {
      return Fail(Code::kNotFound, "no run directory of generation ", wanted, "; the newest is ", attempts.back());
    }
  }
  std::optional<std::int64_t> rank, tail;
  if (const auto text = parsed.Get("rank")) {
    BELAY_ASSIGN(rank, ParseInteger("--rank", *text, 0, 1'000'000));
  }
  if (const auto text = parsed.Get("tail")) {
    BELAY_ASSIGN(tail, ParseInteger("--tail", *text, 0, 1'000'000'000));
  }
  std::optional<std::regex> pattern;
  if (const auto text = parsed.Get("grep")) {
    try {
      pattern.emplace(*text, std::regex::ECMAScript | std::regex::optimize);
    } catch (const std::regex_error& error) {
      return Fail(Code::kInvalidArgument, "--grep '", *text, "' is no regular expression: ", error.what());
    }
  }
  const Filter filter(std::move(pattern));
  std::vector<RankLogFile> logs;
  const auto refresh = [&] {
    const AttemptFolder attempt{folder.AttemptPath(generation)};
    const auto names = files.List(attempt.path);
    if (!names) return;
    for (std::int32_t r = 0; r < static_cast<std::int32_t>(names->size()); ++r) {
      const std::string path = attempt.RankLog(r);
      const bool known = std::ranges::any_of(logs, [&](const RankLogFile& log) { return log.path == path; });
      if (!known && (!rank || *rank == r) && base::Exists(files, path)) logs.push_back({r, path, 0, {}});
    }
  };
  refresh();
  if (logs.empty() && rank && !parsed.Has("f"))
    return Fail(Code::kNotFound, "no log of rank ", *rank, " in ", folder.AttemptPath(generation));
  for (RankLogFile& log : logs) {
    std::string kept;
    for (std::string bytes = ReadMore(files, log); !bytes.empty(); bytes = ReadMore(files, log)) {
      std::string lines = filter.Keep(log.cutter.Feed(bytes));
      if (!tail)
        Print(log, lines, as_json);
      else
        kept = LastOf(kept + lines, *tail);
    }
    Print(log, kept, as_json);
  }
  if (!parsed.Has("f")) {
    for (RankLogFile& log : logs) Print(log, filter.Keep(log.cutter.Finish()), as_json);
    return {};
  }
  const auto print_new = [&] {
    refresh();
    for (RankLogFile& log : logs) {
      for (std::string bytes = ReadMore(files, log); !bytes.empty(); bytes = ReadMore(files, log)) {
        Print(log, filter.Keep(log.cutter.Feed(bytes)), as_json);
      }
    }
  };
  const auto print_rest = [&] {
    print_new();
    for (RankLogFile& log : logs) Print(log, filter.Keep(log.cutter.Finish()), as_json);
  };
  // Restarts of the run that have begun since: also those that are over already.
  const auto print_newer_attempts = [&] {
    if (parsed.Has("generation")) return;
    for (const base::Generation newer : ListAttempts(files, folder)) {
      if (newer <= generation) continue;
      print_rest();
      generation = newer;
      logs.clear();
      print_new();
    }
  };
  bool alive = true;
  while (alive) {
    wire::ToLauncher question;
    question.mutable_ask_status();
    bool stale = false;
    alive = AskLauncher(folder, question, &stale).has_value();
    print_new();
    print_newer_attempts();
    if (alive) base::SystemClock().SleepFor(std::chrono::milliseconds(300));
  }
  print_rest();
  return {};
}

}  // namespace

int LogsCommand(std::span<const std::string> args) {
  std::vector<OptionSpec> specs = JobOptions();
  specs.push_back({"rank", "", "RANK", "only this rank's lines", "", false});
  specs.push_back({"tail", "", "LINES", "only the last lines of each rank", "", false});
  specs.push_back({"f", "follow", "", "go on printing until the run ends", "", false});
  specs.push_back({"grep", "", "REGEX", "only lines that match", "", false});
  specs.push_back({"generation", "", "G", "an earlier run of the job; default: the newest", "", false});
  const auto parsed = ParseOptions(specs, args, true, base::GetEnvironment);
  if (!parsed) return ReportError(parsed.error(), WantsJson(args), "logs");
  if (parsed->help) {
    PrintOut(Str(kUsage, "Options:\n", RenderOptions(specs), kExamples));
    return 0;
  }
  const bool as_json = parsed->Has("json");
  const base::Status status = RunLogs(*parsed, as_json);
  return status ? 0 : ReportError(status.error(), as_json, "logs");
}

}  // namespace belay::launcher
