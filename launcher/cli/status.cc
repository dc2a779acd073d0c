// belay status
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "checkpoint/format/manifest.h"
#include "launcher/cli/commands.h"
#include "launcher/cli/job_access.h"
#include "launcher/run/progress_line.h"
#include "runtime/base/control_page.h"
#include "runtime/base/environment.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;
using nlohmann::json;

constexpr std::string_view kUsage =
    "belay status [JOB] [options]\n"
    "\n"
    "Without a job: every job that ran here and how it stands (of one project if --project or BELAY_PROJECT names "
    "it).\n"
    "With one: its ranks, or how its last run ended.\n"
    "\n";
constexpr std::string_view kExamples =
    "\n"
    "Examples:\n"
    "  belay status\n"
    "  belay status gpt --json\n";

std::string_view PhaseName(std::uint32_t phase) {
  static constexpr std::string_view kNames[] = {"start", "init", "load", "step", "save", "idle", "done"};
  return phase < std::size(kNames) ? kNames[phase] : "unknown";
}

json NumberOrNull(double value) { return std::isfinite(value) ? json(value) : json(nullptr); }

// Of the files themselves: who could be asked is gone. Newest is by generation, then step.
std::optional<base::Step> NewestCommittedStep(base::FileSystem& files, const std::string& job_folder) {
  std::optional<checkpoint::StepAndGeneration> newest;
  const auto names = files.List(job_folder);
  if (!names) return std::nullopt;
  for (const std::string& name : *names) {
    const auto found = checkpoint::ParseCheckpointDirectoryName(name);
    if (!found || !base::Exists(files, Str(job_folder, "/", name, "/", checkpoint::kManifestName))) continue;
    const auto order = [](const auto& one) { return std::pair(one.generation, one.step); };
    if (!newest || order(*newest) < order(*found)) newest = found;
  }
  return newest ? std::optional(newest->step) : std::nullopt;
}

// What is known of one job: from its launcher, else from its last verdict.
json Look(const JobAccess& access, const std::string& job, bool with_ranks) {
  json document = {{"project", access.project}, {"job", job}, {"running", false}};
  const JobFolder folder = FolderOf(access, job);
  wire::ToLauncher question;
  question.mutable_ask_status();
  bool stale = false;
  const auto reply = AskLauncher(folder, question, &stale);
  if (reply && reply->has_job_status()) {
    const wire::JobStatus& status = reply->job_status();
    document["running"] = true;
    document["state"] = status.state();
    document["generation"] = Str(status.generation());
    document["restarts"] = status.restarts();
    document["running_seconds"] = status.running_seconds();
    document["run_directory"] = status.run_directory();
    document["launcher_pid"] = status.launcher_pid();
    document["stop_requested"] = status.stop_requested();
    std::optional<std::int64_t> step;
    std::int64_t total = 0, committed = -1;
    json ranks = json::array();
    for (const wire::RankStatus& rank : status.ranks()) {
      const wire::Progress& p = rank.progress();
      if (p.attached()) step = std::min(step.value_or(p.step()), p.step());
      total = std::max(total, p.total_steps());
      committed = std::max(committed, p.attached() ? p.committed_step() : -1);
      ranks.push_back({{"rank", rank.rank()},
                       {"host", rank.host()},
                       {"pid", rank.pid()},
                       {"state", rank.state()},
                       {"attached", p.attached()},
                       {"phase", PhaseName(p.phase())},
                       {"step", Str(p.step())},
                       {"loss", NumberOrNull(p.loss())},
                       {"samples_per_second", NumberOrNull(p.samples_per_second())},
                       {"tokens_per_second", NumberOrNull(p.tokens_per_second())},
                       {"stall_ms", NumberOrNull(p.stall_ms())},
                       {"data_wait_ms", NumberOrNull(p.data_wait_ms())},
                       {"log", rank.log_path()}});
    }
    document["step"] = step ? json(Str(*step)) : json(nullptr);
    document["total_steps"] = total > 0 ? json(Str(total)) : json(nullptr);
    document["committed_step"] = committed >= 0 ? json(Str(committed)) : json(nullptr);
    document["world_size"] = status.ranks_size();
    if (with_ranks) document["ranks"] = std::move(ranks);
    return document;
  }
  document["launcher_lost"] = stale;
  base::FileSystem& files = base::PosixFileSystem();
  const std::vector<base::Generation> attempts = ListAttempts(files, folder);
  document["state"] = attempts.empty() ? "never_ran" : "unknown";
  if (!attempts.empty()) {
    const std::string path = folder.AttemptPath(attempts.back());
    document["generation"] = Str(attempts.back());
    document["run_directory"] = path;
    if (const auto text = base::ReadWholeFile(files, path + "/verdict.json", 16 * 1024 * 1024)) {
      json verdict = json::parse(*text, nullptr, false);
      if (verdict.is_object()) {
        document["state"] = verdict.value("outcome", "unknown");
        for (const char* key :
             {"exit_status", "reason", "ended", "committed_step", "restarts", "world_size", "run_again"}) {
          if (verdict.contains(key)) document[key] = verdict[key];
        }
        if (with_ranks && verdict.contains("ranks")) document["ranks"] = verdict["ranks"];
      }
    } else if (stale || !attempts.empty()) {
      document["state"] = "lost";  // no verdict: the launcher was killed
      const auto committed = NewestCommittedStep(files, Str(access.data_dir, "/", access.project, "/", job));
      document["committed_step"] = committed ? json(Str(*committed)) : json(nullptr);
    }
  }
  return document;
}

std::string Word(const json& document, const char* key, const std::string& otherwise = "-") {
  const auto it = document.find(key);
  if (it == document.end() || it->is_null()) return otherwise;
  return it->is_string() ? it->get<std::string>() : it->dump();
}

std::string Row(std::initializer_list<std::string> cells, std::initializer_list<std::size_t> widths) {
  std::string text;
  auto width = widths.begin();
  for (const std::string& cell : cells) {
    text += cell;
    if (width != widths.end()) text += std::string(cell.size() + 2 < *width ? *width - cell.size() : 2, ' ');
    if (width != widths.end()) ++width;
  }
  while (text.ends_with(' ')) text.pop_back();
  return text + "\n";
}

std::string Rounded(const json& document, const char* key) {
  const auto it = document.find(key);
  if (it == document.end() || !it->is_number()) return "-";
  char text[32];
  std::snprintf(text, sizeof text, "%.4f", it->get<double>());
  return text;
}

std::string RenderOne(const json& d) {
  std::string text = Str(Word(d, "project"), "/", Word(d, "job"), ": ", Word(d, "state"));
  if (d["running"].get<bool>()) {
    text += Str(", generation ", Word(d, "generation"), ", ", HumanDuration(d["running_seconds"].get<double>()),
                ", belay pid ", Word(d, "launcher_pid"), "\n");
    text += Str("step ", Word(d, "step"), "/", Word(d, "total_steps", "?"), ", committed ", Word(d, "committed_step"),
                ", restarts ", Word(d, "restarts"), "\n");
    const std::initializer_list<std::size_t> widths = {6, 16, 10, 12, 8, 10, 12};
    text += Row({"rank", "host", "pid", "state", "phase", "step", "loss", "log"}, widths);
    for (const json& r : d["ranks"]) {
      text += Row({Word(r, "rank"), Word(r, "host"), Word(r, "pid"), Word(r, "state"),
                   r["attached"].get<bool>() ? Word(r, "phase") : "-",
                   r["attached"].get<bool>() ? Word(r, "step") : "-", Rounded(r, "loss"), Word(r, "log")},
                  widths);
    }
    return text;
  }
  text += Str(" (generation ", Word(d, "generation"), ", exit status ", Word(d, "exit_status"), ", ended ",
              Word(d, "ended"), ")\n");
  if (d.contains("reason")) text += Word(d, "reason") + "\n";
  if (Word(d, "state") == "lost")
    text += "its launcher was killed before it could write a verdict; run the job again to go on\n";
  text += Str("committed step ", Word(d, "committed_step"), "; logs in ", Word(d, "run_directory"), "\n");
  return text;
}

}  // namespace

int StatusCommand(std::span<const std::string> args) {
  const std::vector<OptionSpec> specs = JobOptions();
  const auto parsed = ParseOptions(specs, args, true, base::GetEnvironment);
  if (!parsed) return ReportError(parsed.error(), WantsJson(args), "status");
  if (parsed->help) {
    PrintOut(Str(kUsage, "Options:\n", RenderOptions(specs), kExamples));
    return 0;
  }
  const bool as_json = parsed->Has("json");
  const auto run = [&]() -> base::Status {
    if (parsed->rest.size() > 1)
      return base::Fail(base::Code::kInvalidArgument, "belay status wants one job's name, or none");
    BELAY_ASSIGN(JobAccess access, OpenJobs(*parsed));
    if (parsed->rest.size() == 1) {
      BELAY_TRY(FindJob(access, parsed->rest[0]));
      json document = Look(access, parsed->rest[0], true);
      document["schema_version"] = 1;
      PrintOut(as_json ? document.dump(2, ' ', false, json::error_handler_t::replace) + "\n" : RenderOne(document));
      return {};
    }
    json jobs = json::array();
    for (const JobName& name : ListJobs(base::PosixFileSystem(), access.data_dir)) {
      if (parsed->Has("project") && name.project != access.project) continue;
      JobAccess one = access;
      one.project = name.project;
      jobs.push_back(Look(one, name.job, false));
    }
    if (as_json) {
      PrintOut(json{{"schema_version", 1}, {"jobs", jobs}}.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
      return {};
    }
    if (jobs.empty()) {
      PrintOut(Str("nothing has run below ", access.data_dir, " yet\n"));
      return {};
    }
    const std::initializer_list<std::size_t> widths = {42, 18, 8, 16, 12};
    std::string text = Row({"job", "state", "gen", "step", "committed"}, widths);
    for (const json& d : jobs) {
      text += Row(
          {Str(Word(d, "project"), "/", Word(d, "job")), Word(d, "state"), Word(d, "generation"),
           d.contains("step") && !d["step"].is_null() ? Str(Word(d, "step"), "/", Word(d, "total_steps", "?")) : "-",
           Word(d, "committed_step")},
          widths);
    }
    PrintOut(text);
    return {};
  };
  const base::Status status = run();
  return status ? 0 : ReportError(status.error(), as_json, "status");
}

}  // namespace belay::launcher
