// belay ckpt verify
#include "checkpoint/cli/documents.h"
#include "checkpoint/cli/progress.h"
#include "checkpoint/cli/verb.h"
#include "runtime/base/environment.h"
#include "runtime/base/file_system.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::cli {
namespace {

struct Verdict {
  std::string what;  // for people: "default/gpt step 1200"
  Json identity;     // for machines
  std::uint64_t bytes = 0;
  double seconds = 0;
  std::vector<base::Error> errors;
  bool lifted = false;  // it was quarantined, and is good
};

struct Reading {
  int threads = 4;
  Progress progress;
};

Verdict Check(std::string what, Json identity, base::Result<std::unique_ptr<Restorer>> opened, Reading& reading) {
  Verdict verdict{std::move(what), std::move(identity)};
  if (!opened) {
    verdict.errors.push_back(std::move(opened).error());
    return verdict;
  }
  for (const ManifestFile& file : (*opened)->manifest().files) verdict.bytes += file.bytes;
  const base::SteadyTime start = base::SystemClock().Now();
  verdict.errors = (*opened)->Verify(reading.threads, [&](std::uint64_t bytes) { reading.progress.Take(bytes); });
  verdict.seconds = std::chrono::duration<double>(base::SystemClock().Now() - start).count();
  return verdict;
}

Verdict CheckDirectory(const std::string& directory, Reading& reading) {
  reading.progress.Begin(directory);
  return Check(directory, {{"directory", directory}}, Restorer::OpenDirectory(base::PosixFileSystem(), directory),
               reading);
}

Verdict CheckListed(Access& access, const Listed& listed, Reading& reading) {
  const CheckpointKey& key = listed.info.key;
  const std::string what = base::Str(key.job.project, "/", key.job.job, " step ", key.step);
  reading.progress.Begin(what);
  Verdict verdict = Check(base::Str(what, " generation ", key.generation),
                          {{"project", key.job.project},
                           {"job", key.job.job},
                           {"step", base::Str(key.step)},
                           {"generation", base::Str(key.generation)},
                           {"directory", listed.info.directory}},
                          OpenFiles(access, listed), reading);
  if (listed.info.quarantine.empty() || !verdict.errors.empty()) return verdict;
  if (access.client == nullptr) {
    Note(base::Str(what, " is good but stays quarantined, because no belayd answers: `belay ckpt unquarantine`"));
  } else if (auto lifted = access.client->QuarantineCheckpoint(key, ""); !lifted) {
    Note(base::Str(what, " is good but stays quarantined: ", lifted.error().Text()));
  } else {
    verdict.lifted = true;
  }
  return verdict;
}

void Say(const Verdict& verdict) {
  if (verdict.errors.empty()) {
    Print(base::Str("ok       ", verdict.what, ": ", base::HumanBytes(verdict.bytes), " read",
                    verdict.lifted ? "; not quarantined any more" : "", "\n"));
    return;
  }
  Print(base::Str("damaged  ", verdict.what, ":\n"));
  for (const base::Error& error : verdict.errors) Print("         " + error.Text() + "\n");
}

// Damage decides; a file that could not be read for another reason (permission, I/O) has its own status.
int StatusOf(const std::vector<Verdict>& verdicts) {
  int status = 0;
  for (const Verdict& verdict : verdicts) {
    for (const base::Error& error : verdict.errors) {
      const auto own = base::Describe(error.code).exit_status;
      // What the manifest lists and is not there is damage too, and so is a manifest that never ends.
      const bool damage = own == base::ExitStatus::kBadData || error.code == base::Code::kNotFound ||
                          error.code == base::Code::kLimitExceeded;
      if (damage) return static_cast<int>(base::ExitStatus::kBadData);
      if (status == 0) status = static_cast<int>(own);
    }
  }
  return status;
}

base::Result<std::vector<Verdict>> CheckAsked(const Arguments& arguments, Reading& reading) {
  std::vector<Verdict> verdicts;
  const bool text = !arguments.Has("json");
  const auto add = [&](Verdict verdict) {
    reading.progress.Clear();
    if (text) Say(verdict);  // as they come: a large one takes minutes
    verdicts.push_back(std::move(verdict));
  };
  if (const auto directory = arguments.Get("dir")) {
    if (arguments.Has("all") || arguments.Positional(0)) {
      return base::Fail(base::Code::kInvalidArgument, "--dir names one folder; leave out JOB, STEP and --all");
    }
    const bool absolute = directory->starts_with("/");
    const std::string path = absolute ? *directory : base::CurrentDirectory() + "/" + *directory;
    if (!base::Exists(base::PosixFileSystem(), path)) {
      return base::Fail(base::Code::kNotFound, "there is no folder ", *directory);
    }
    add(CheckDirectory(path, reading));
    return verdicts;
  }
  const auto job = arguments.Positional(0);
  if (!job && !arguments.Has("all")) {
    return base::Fail(base::Code::kInvalidArgument,
                      "say what to verify: JOB [STEP], --all or --dir DIR; see `belay ckpt verify --help`");
  }
  if (arguments.Has("all") && arguments.Positional(1)) {
    return base::Fail(base::Code::kInvalidArgument, "--all means every step; leave out STEP");
  }
  BELAY_ASSIGN(const auto generation, arguments.GetNumber("generation", 1, INT64_MAX));
  BELAY_ASSIGN(Access access, OpenAccess(arguments, Need::kLook));
  if (!arguments.Has("all")) {
    BELAY_ASSIGN(const Listed listed, Find(access, *job, arguments.Positional(1), generation));
    reading.progress.SetTotal(listed.info.bytes);
    add(CheckListed(access, listed, reading));
    return verdicts;
  }
  const std::string project = access.all_projects && !job ? std::string() : access.project;
  BELAY_ASSIGN(const auto all, ListAll(access, project, job.value_or("")));
  std::uint64_t total = 0;
  for (const Listed& listed : all) total += listed.info.bytes;
  reading.progress.SetTotal(total);
  for (const Listed& listed : all) add(CheckListed(access, listed, reading));
  for (const auto& folder : FindUnreadable(access, project, job.value_or(""), all)) {
    add(Verdict{folder.directory, {{"directory", folder.directory}}, 0, 0, {folder.error}});
  }
  return verdicts;
}

struct Summary {
  std::size_t checkpoints = 0, damaged = 0;
  std::uint64_t bytes = 0;
  double seconds = 0;
};

void PrintSummary(const Summary& summary) {
  const double rate = summary.seconds > 0 ? static_cast<double>(summary.bytes) / summary.seconds : 0;
  Print(base::Str(summary.checkpoints, summary.checkpoints == 1 ? " checkpoint" : " checkpoints", ", ",
                  base::HumanBytes(summary.bytes), " at ", base::HumanBytes(static_cast<std::uint64_t>(rate)), "/s: ",
                  summary.checkpoints - summary.damaged, " good, ", summary.damaged, " damaged or unreadable\n"));
}

base::Result<int> RunVerify(const Arguments& arguments) {
  BELAY_ASSIGN(const auto threads, arguments.GetNumber("threads", 1, 256));
  BELAY_ASSIGN(const auto rate, arguments.GetBytes("rate", 1));
  Reading reading{static_cast<int>(threads.value_or(4)), StderrProgress(rate.value_or(0))};
  BELAY_ASSIGN(const auto verdicts, CheckAsked(arguments, reading));
  const int status = StatusOf(verdicts);
  Summary summary{verdicts.size(), 0, 0, reading.progress.seconds()};
  for (const Verdict& verdict : verdicts) {
    summary.bytes += verdict.bytes;
    if (!verdict.errors.empty()) ++summary.damaged;
  }
  if (arguments.Has("json")) {
    Json checked = Json::array();
    for (const Verdict& verdict : verdicts) {
      Json item = verdict.identity;
      item["ok"] = verdict.errors.empty();
      item["unquarantined"] = verdict.lifted;
      item["bytes"] = verdict.bytes;
      item["seconds"] = verdict.seconds;
      item["errors"] = Json::array();
      for (const base::Error& error : verdict.errors) item["errors"].push_back(ErrorJson(error));
      checked.push_back(std::move(item));
    }
    PrintDocument({{"ok", status == 0},
                   {"exit_status", status},
                   {"checkpoints", summary.checkpoints},
                   {"damaged", summary.damaged},
                   {"bytes", summary.bytes},
                   {"seconds", summary.seconds},
                   {"checked", std::move(checked)}});
  } else if (verdicts.empty()) {
    Note("no checkpoints to verify");
  } else if (arguments.Has("all")) {
    PrintSummary(summary);
  }
  return status;
}

}  // namespace

Verb VerifyVerb() {
  return {
      "verify",
      "read every byte and check every digest",
      {"belay ckpt verify JOB [STEP] | --all | --dir DIR",
       "Reads checkpoints whole and checks every digest. Exits 65 if anything is damaged or missing, and names file,\n"
       "tensor and offset. STEP is a number, a folder's name or \"latest\" (the default). --dir needs no belayd. A\n"
       "quarantined checkpoint that turns out to be good is offered for restoring again. On a\n"
       "terminal stderr says how far it is.",
       WithCommon({{"all", "", "every checkpoint of JOB, or of all jobs"},
                   {"dir", "DIR", "this checkpoint folder, wherever it is"},
                   {"threads", "N", "how many files are read at once (4)"},
                   {"rate", "BYTES", "read so many bytes a second at most, 200M for one"},
                   {"generation", "N", "of several checkpoints of one step, this generation's"}}),
       0, 2,
       "  belay ckpt verify gpt\n  belay ckpt verify --all --rate 200M\n  belay ckpt verify --dir "
       "/backup/gpt/step-000001200.gen-3\n"},
      RunVerify};
}

}  // namespace belay::checkpoint::cli
