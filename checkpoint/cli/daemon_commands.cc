// belay daemon start, stop, status
#include <algorithm>
#include <csignal>

#include "checkpoint/cli/documents.h"
#include "checkpoint/cli/verb.h"
#include "checkpoint/client/locate.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::cli {
namespace {

using base::Code;
using base::Result;

constexpr base::Duration kStopPatience = std::chrono::seconds(60);

LocateRequest RequestOf(const Arguments& arguments) {
  LocateRequest request;
  request.data_dir = arguments.Get("data-dir");
  request.socket = arguments.Get("socket");
  request.program = "belay daemon";
  return request;
}

Json BulkJson(const BulkReport& bulk) {
  const bool measured = !bulk.measured.empty();
  return {{"block_bytes", bulk.shape.block_bytes},
          {"queue_depth", bulk.shape.queue_depth},
          {"source", measured ? "measured" : "default"},
          {"measured_at", measured ? Json(bulk.measured) : Json()}};
}

// "blocks of 4.0 MiB, 16 in flight (default)".
std::string BulkText(const BulkReport& bulk) {
  return base::Str("blocks of ", base::HumanBytes(bulk.shape.block_bytes), ", ", bulk.shape.queue_depth, " in flight (",
                   bulk.measured.empty() ? "default" : "measured " + bulk.measured, ")");
}

Json ReportJson(const DaemonReport& report) {
  Json also = Json::array();
  for (const DataFolderReport& folder : report.also) {
    also.push_back({{"path", folder.path},
                    {"disk_available_bytes", folder.disk_available_bytes},
                    {"disk_total_bytes", folder.disk_total_bytes},
                    {"retired", folder.retired},
                    {"bulk", BulkJson(folder.bulk)},
                    {"missing", folder.missing.empty() ? Json() : Json(folder.missing)}});
  }
  Json runs = Json::array();
  for (const RunInfo& run : report.runs) {
    runs.push_back({{"project", run.job.project},
                    {"job", run.job.job},
                    {"generation", base::Str(run.generation)},
                    {"world_size", run.world_size},
                    {"attached", run.attached},
                    {"launcher_pid", run.launcher_pid}});
  }
  return {{"running", true},
          {"pid", report.pid},
          {"version", report.belay_version},
          {"data_dir", report.data_dir},
          {"socket", report.socket},
          {"private", report.is_private},
          {"uptime_seconds", report.uptime_seconds},
          {"writer", report.writer},
          {"bulk", BulkJson(report.bulk)},
          {"staging_bytes", report.staging_bytes},
          {"disk_available_bytes", report.disk_available_bytes},
          {"disk_total_bytes", report.disk_total_bytes},
          {"also_data_dirs", std::move(also)},
          {"connections", report.connections},
          {"checkpoints", report.checkpoints},
          {"checkpoint_bytes", report.checkpoint_bytes},
          {"scrub",
           {{"bytes_per_second", report.scrub.bytes_per_second},
            {"under_way", report.scrub.under_way},
            {"began", report.scrub.began.empty() ? Json() : Json(report.scrub.began)},
            {"ended", report.scrub.ended.empty() ? Json() : Json(report.scrub.ended)},
            {"files", report.scrub.files},
            {"bytes", report.scrub.bytes},
            {"damaged", report.scrub.damaged},
            {"unreadable", report.scrub.unreadable}}},
          {"restart",
           {{"attempts", report.restart.attempts},
            {"failure", report.restart.failure.empty() ? Json() : Json(report.restart.failure)},
            {"from_version", report.restart.from_version.empty() ? Json() : Json(report.restart.from_version)},
            {"snapshots", report.restart.snapshots},
            {"bytes", report.restart.bytes},
            {"lost", report.restart.lost.empty() ? Json() : Json(report.restart.lost)},
            {"away_seconds", report.restart.away_seconds}}},
          {"runs", std::move(runs)}};
}

std::string UptimeText(double seconds) {
  const auto whole = static_cast<std::int64_t>(seconds);
  if (whole < 120) return base::Str(whole, "s");
  if (whole < 2 * 3600) return base::Str(whole / 60, "m");
  return base::Str(whole / 3600, "h");
}

std::string ScrubText(const ScrubReport& scrub) {
  if (scrub.bytes_per_second == 0) return "off";
  if (scrub.began.empty()) return base::Str("none yet, at ", base::HumanBytes(scrub.bytes_per_second), "/s");
  return base::Str(scrub.under_way ? "under way since " + scrub.began : "last pass ended " + scrub.ended, ": ",
                   scrub.files, " files, ", base::HumanBytes(scrub.bytes), ", ", scrub.damaged, " damaged, ",
                   scrub.unreadable, " unreadable");
}

// "2 snapshots (1.5 GiB) stayed in memory".
std::string KeptText(const RestartReport& restart) {
  return base::Str(restart.snapshots, restart.snapshots == 1 ? " snapshot (" : " snapshots (",
                   base::HumanBytes(restart.bytes), ") stayed in memory");
}

std::string RestartText(const RestartReport& restart) {
  if (restart.attempts == 0) return "never";
  const std::string times = base::Str(restart.attempts, restart.attempts == 1 ? " time: " : " times; at the last: ");
  return times + (restart.failure.empty() ? KeptText(restart) : restart.failure);
}

void PrintReport(const DaemonReport& report) {
  const auto line = [](const std::string& name, const std::string& value) {
    Print(name + std::string(13 - name.size(), ' ') + value + "\n");
  };
  line("belayd", base::Str("version ", report.belay_version, ", pid ", report.pid, ", up ",
                           UptimeText(report.uptime_seconds), report.is_private ? ", private" : ""));
  line("data dir", report.data_dir);
  line("socket", report.socket);
  line("disk",
       base::Str(base::HumanBytes(report.disk_available_bytes), " free of ", base::HumanBytes(report.disk_total_bytes),
                 ", written by ", report.writer, ", ", BulkText(report.bulk)));
  for (const DataFolderReport& folder : report.also) {
    line("also", folder.missing.empty()
                     ? base::Str(folder.path, ": ", base::HumanBytes(folder.disk_available_bytes), " free of ",
                                 base::HumanBytes(folder.disk_total_bytes),
                                 folder.retired ? ", not written to any more" : ", " + BulkText(folder.bulk))
                     : folder.missing);
  }
  line("memory", base::Str(base::HumanBytes(report.staging_bytes), " of staging memory"));
  line("checkpoints", base::Str(report.checkpoints, ", ", base::HumanBytes(report.checkpoint_bytes)));
  line("scrub", ScrubText(report.scrub));
  line("restarted", RestartText(report.restart));
  line("connections", base::Str(report.connections));
  if (report.runs.empty()) return;
  Print("\n");
  Table table({{"RUN OF"}, {"GEN", true}, {"WORLD", true}, {"ATTACHED", true}, {"LAUNCHER", true}});
  for (const RunInfo& run : report.runs) {
    table.Add({run.job.project + "/" + run.job.job, base::Str(run.generation), base::Str(run.world_size),
               base::Str(run.attached), base::Str(run.launcher_pid)});
  }
  Print(table.Text());
}

// The private socket's folder is made when its path is asked for, so a daemon started here is found by every command.
Result<std::string> SocketToStartOn(const LocateRequest& request, const std::string& data_dir) {
  if (const auto named = NamedSocket(request.socket)) return *named;
  return PrivateSocketPath(data_dir);
}

// Waits until the daemon answers or its process ends.
Result<std::unique_ptr<Client>> AwaitAnswer(const StartedDaemon& daemon, const std::string& socket,
                                            base::Duration timeout) {
  base::Clock& clock = base::SystemClock();
  const base::SteadyTime deadline = clock.Now() + timeout;
  base::SteadyTime words_due = clock.Now() + kStartWordsPause;
  for (;;) {
    auto client = Client::Connect(base::UnixTransport(), socket, "belay daemon");
    if (client) return client;
    BELAY_ASSIGN(const auto exit, base::PosixProcessSpawner().Wait(daemon.pid, std::chrono::milliseconds(20)));
    if (exit) return tl::unexpected<base::Error>(WhyItEnded(daemon, *exit));
    if (clock.Now() >= deadline) {
      return base::Wrap(std::move(client).error(), "belayd (pid ", daemon.pid, ") does not answer yet; see ",
                        daemon.log_path);
    }
    if (clock.Now() >= words_due) {
      words_due = clock.Now() + kStartWordsPause;
      Note(StillStarting(daemon));
    }
  }
}

Result<std::vector<std::string>> Resolved(std::vector<std::string> paths) {
  for (std::string& path : paths) {
    BELAY_ASSIGN(path, ResolveDataDirectory(path));
  }
  return paths;
}

// A belayd that runs already changes its data folders at its next start only.
base::Status CheckFolders(const DaemonReport& report, const std::vector<std::string>& also,
                          const std::vector<std::string>& drop) {
  const auto writes_to = [&](const std::string& path) {
    return std::any_of(report.also.begin(), report.also.end(),
                       [&](const DataFolderReport& folder) { return folder.path == path && !folder.retired; });
  };
  for (const auto& [paths, wanted] : {std::pair(&also, true), std::pair(&drop, false)}) {
    for (const std::string& path : *paths) {
      if (writes_to(path) == wanted) continue;
      return base::Fail(Code::kAlreadyExists, "belayd runs already (pid ", report.pid, ") and ",
                        wanted ? "does not write" : "writes", " to ", path, ": `belay daemon stop` first");
    }
  }
  return {};
}

Result<int> RunStart(const Arguments& arguments) {
  const LocateRequest request = RequestOf(arguments);
  BELAY_ASSIGN(const auto budget, arguments.GetNumber("memory-budget", 1, INT64_MAX));
  BELAY_ASSIGN(const auto in_flight, arguments.GetNumber("snapshots-in-flight", 1, INT64_MAX));
  BELAY_ASSIGN(const auto scrub_rate, arguments.GetBytes("scrub-rate", 0));
  BELAY_ASSIGN(const auto scrub_every, arguments.GetNumber("scrub-every", 0, 87600));
  BELAY_ASSIGN(const std::string data_dir, ResolveDataDirectory(request.data_dir));
  BELAY_ASSIGN(const std::string socket, SocketToStartOn(request, data_dir));
  BELAY_ASSIGN(const auto also, Resolved(arguments.GetAll("also-data-dir")));
  BELAY_ASSIGN(const auto drop, Resolved(arguments.GetAll("drop-data-dir")));
  if (auto running = Client::Connect(base::UnixTransport(), socket, request.program)) {
    BELAY_ASSIGN(const DaemonReport report, (*running)->GetDaemonStatus());
    const bool passing = report.is_private;
    if (!passing && report.data_dir == data_dir) {
      BELAY_TRY(CheckFolders(report, also, drop));
      if (arguments.Has("json")) {
        PrintDocument({{"started", false}, {"daemon", ReportJson(report)}});
      } else {
        Print(base::Str("belayd runs already (pid ", report.pid, ") at ", report.socket, "\n"));
      }
      return 0;
    }
    return base::Fail(Code::kAlreadyExists, "a ", passing ? "private " : "", "belayd (pid ", report.pid, ", data dir ",
                      report.data_dir, ") answers at ", socket,
                      passing ? ": it leaves with its last run; or `belay daemon stop` first" : "");
  }
  std::vector<std::string> words = {"--data-dir", data_dir, "--socket", socket};
  if (budget) words.insert(words.end(), {"--memory-budget", base::Str(*budget)});
  if (in_flight) words.insert(words.end(), {"--snapshots-in-flight", base::Str(*in_flight)});
  if (scrub_rate) words.insert(words.end(), {"--scrub-rate", base::Str(*scrub_rate)});
  if (scrub_every) words.insert(words.end(), {"--scrub-every", base::Str(*scrub_every)});
  for (const std::string& path : also) words.insert(words.end(), {"--also-data-dir", path});
  for (const std::string& path : drop) words.insert(words.end(), {"--drop-data-dir", path});
  if (arguments.Has("no-probe")) words.emplace_back("--no-probe");
  if (arguments.Has("log-json")) words.emplace_back("--log-json");
  BELAY_ASSIGN(const StartedDaemon daemon, StartDaemon(std::move(words), data_dir));
  BELAY_ASSIGN(const auto client, AwaitAnswer(daemon, socket, kStartPatience));
  BELAY_ASSIGN(const DaemonReport report, client->GetDaemonStatus());
  if (arguments.Has("json")) {
    PrintDocument({{"started", true}, {"daemon", ReportJson(report)}});
  } else {
    Print(base::Str("belayd started: pid ", report.pid, ", data dir ", report.data_dir, ", socket ", report.socket,
                    "\n"));
  }
  return 0;
}

// Until the process is gone: it may still hold the data directory when its connections have ended.
bool AwaitGone(std::int32_t pid, base::Duration patience) {
  base::Clock& clock = base::SystemClock();
  const base::SteadyTime deadline = clock.Now() + patience;
  const std::string path = base::Str("/proc/", pid, "/stat");  // "12 (belayd) S ..."
  while (true) {
    const std::string stat = base::ReadWholeFile(base::PosixFileSystem(), path, 4096).value_or("");
    const std::size_t name = stat.find(" (belayd) ");  // a number that is somebody else's now has another
    if (name == std::string::npos) return true;
    const char state = stat[std::min(name + 10, stat.size() - 1)];
    if (state == 'Z' || state == 'X') return true;  // has ended, and nobody has taken note of it yet
    if (clock.Now() >= deadline) return false;
    clock.SleepFor(std::chrono::milliseconds(5));
  }
}

Result<int> RunStop(const Arguments& arguments) {
  auto located = ConnectToDaemon(RequestOf(arguments));
  if (!located) {
    if (located.error().code != Code::kUnavailable) return tl::unexpected<base::Error>(std::move(located).error());
    if (arguments.Has("json")) PrintDocument({{"stopped", false}, {"was_running", false}});
    Note("no belayd runs: " + located.error().Text());
    return 0;  // what was wanted is so
  }
  BELAY_ASSIGN(const DaemonReport report, located->client->GetDaemonStatus());
  auto stopped = located->client->StopDaemon(arguments.Has("force"));
  // It may close the connection in place of an answer: then it is gone, which is what was asked.
  if (!stopped && stopped.error().code != Code::kUnavailable) {
    if (arguments.Has("force")) return tl::unexpected<base::Error>(std::move(stopped).error());
    return base::Wrap(std::move(stopped).error(), "belayd (pid ", report.pid,
                      ") does not stop (--force stops it all the same)");
  }
  if (!located->client->WaitBroken(kStopPatience) || !AwaitGone(report.pid, kStopPatience)) {
    return base::Fail(Code::kTimeout, "belayd (pid ", report.pid, ") has not stopped within 60 s; see ",
                      report.data_dir, "/.belayd/belayd.log");
  }
  if (arguments.Has("json")) {
    PrintDocument({{"stopped", true}, {"was_running", true}, {"pid", report.pid}, {"socket", report.socket}});
  } else {
    Print(base::Str("belayd stopped (pid ", report.pid, ")\n"));
  }
  return 0;
}

// Until the belayd that took over answers, or the process has ended over it.
Result<DaemonReport> AwaitTakenOver(const DaemonReport& before, const std::string& log) {
  base::Clock& clock = base::SystemClock();
  const base::SteadyTime deadline = clock.Now() + kStartPatience;
  base::SteadyTime words_due = clock.Now() + kStartWordsPause;
  for (;;) {
    auto client = Client::Connect(base::UnixTransport(), before.socket, "belay daemon");
    auto report = client ? (*client)->GetDaemonStatus() : Result<DaemonReport>(tl::unexpected(client.error()));
    if (report && report->pid == before.pid) return report;
    if (report || AwaitGone(before.pid, base::Duration(0))) {
      return base::Fail(Code::kUnavailable, "belayd (pid ", before.pid, ") has ended over its restart; the end of ",
                        log, " says why. Committed checkpoints are safe, what was in memory only is gone",
                        report ? base::Str("; another belayd (pid ", report->pid, ") serves now")
                               : std::string(": `belay daemon start`"));
    }
    if (clock.Now() >= deadline) {
      return base::Wrap(std::move(report).error(), "belayd (pid ", before.pid, ") does not answer yet; see ", log);
    }
    if (clock.Now() >= words_due) {
      words_due = clock.Now() + kStartWordsPause;
      Note(base::Str("belayd (pid ", before.pid,
                     ") is still restarting: it reads every checkpoint of the data "
                     "directory; ",
                     log, " says how far it is"));
    }
    clock.SleepFor(std::chrono::milliseconds(10));
  }
}

Result<int> RunRestart(const Arguments& arguments) {
  BELAY_ASSIGN(const Located located, ConnectToDaemon(RequestOf(arguments)));
  BELAY_ASSIGN(const DaemonReport before, located.client->GetDaemonStatus());
  const std::string log = before.data_dir + "/.belayd/belayd.log";
  auto asked = located.client->RestartDaemon();
  if (!asked && asked.error().code == Code::kUnsupported) {
    return base::Fail(Code::kUnsupported, "belayd (pid ", before.pid, ", version ", before.belay_version,
                      ") is too old to restart and keep its memory: `belay daemon stop`, then start it");
  }
  // It may close the connection in place of an answer.
  if (!asked && !located.client->Broken()) return tl::unexpected<base::Error>(std::move(asked).error());
  if (!located.client->WaitBroken(kStopPatience)) {
    return base::Fail(Code::kTimeout, "belayd (pid ", before.pid, ") was about to restart, and does not; see ", log);
  }
  BELAY_ASSIGN(const DaemonReport after, AwaitTakenOver(before, log));
  if (!after.restart.failure.empty()) return base::Fail(Code::kUnavailable, after.restart.failure);
  if (!after.restart.lost.empty()) Note("not everything stayed in memory: " + after.restart.lost);
  if (arguments.Has("json")) {
    PrintDocument({{"restarted", true}, {"daemon", ReportJson(after)}});
  } else {
    Print(base::Str("belayd restarted: pid ", after.pid, ", version ", after.belay_version,
                    before.belay_version == after.belay_version ? "" : " after " + before.belay_version, "; ",
                    KeptText(after.restart), "\n"));
  }
  return 0;
}

Result<int> RunStatus(const Arguments& arguments) {
  BELAY_ASSIGN(const Located located, ConnectToDaemon(RequestOf(arguments)));
  BELAY_ASSIGN(const DaemonReport report, located.client->GetDaemonStatus());
  if (arguments.Has("json")) {
    PrintDocument({{"daemon", ReportJson(report)}});
  } else {
    PrintReport(report);
  }
  return 0;
}

std::vector<OptionSpec> DaemonOptions(std::vector<OptionSpec> more) {
  more = WithCommon(std::move(more));
  std::erase_if(more, [](const OptionSpec& option) { return option.name == "project"; });
  return more;
}

}  // namespace

Verb DaemonStartVerb() {
  return {
      "start",
      "start a belayd that stays",
      {"belay daemon start",
       "Starts belayd for a data directory, detached, and waits until it answers. It stays until it is stopped; "
       "without\n"
       "this, `belay run` starts a private one that leaves with its last run.",
       DaemonOptions(
           {{"also-data-dir", "DIR", "a folder on another drive, to write to it too; remembered; may be repeated",
             true},
            {"drop-data-dir", "DIR", "write no more to such a folder; if it is gone, forget it with what it holds",
             true},
            {"memory-budget", "BYTES", "staging memory for all jobs together at most"},
            {"scrub-rate", "BYTES",
             "read checkpoints again, and do what else nobody waits for, at so many bytes a second (32M); 0: never"},
            {"scrub-every", "HOURS", "from the beginning of one such pass to the next (24)"},
            {"no-probe", "", "do not measure how the devices are best written to"},
            {"log-json", "", "write the log as JSON lines"}}),
       0, 0, ""},
      RunStart};
}

Verb DaemonStopVerb() {
  return {"stop",
          "let belayd finish writing, then stop it",
          {"belay daemon stop",
           "Stops belayd once what it holds is committed. Refused while ranks are attached, unless forced. Does "
           "nothing, and\n"
           "well, if none runs.",
           DaemonOptions({{"force", "", "stop at once, also while ranks are attached"}}), 0, 0, ""},
          RunStop};
}

Verb DaemonRestartVerb() {
  return {"restart",
          "put the installed belayd in its place, keeping what is in memory",
          {"belay daemon restart",
           "For an upgrade: once belayd has written what is being saved, the program that is installed now takes its "
           "place,\n"
           "with the same pid, socket and flags. Snapshots stay in memory; launchers and ranks connect again by "
           "themselves.\n"
           "If that program cannot take over, or saves do not end within a minute, belayd goes on as it was.",
           DaemonOptions({}), 0, 0, ""},
          RunRestart};
}

Verb DaemonStatusVerb() {
  return {"status",
          "what belayd holds and does",
          {"belay daemon status", "Shows the running belayd; exits 69 if none answers.", DaemonOptions({}), 0, 0, ""},
          RunStatus};
}

}  // namespace belay::checkpoint::cli
