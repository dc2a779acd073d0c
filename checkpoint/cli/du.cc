// belay ckpt du
#include "checkpoint/cli/disk_usage.h"
#include "checkpoint/cli/documents.h"
#include "checkpoint/cli/verb.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::cli {
namespace {

struct Sums {
  std::uint64_t bytes = 0, leftover_bytes = 0, quarantined_bytes = 0;
  std::size_t checkpoints = 0, leftovers = 0, quarantined = 0;
};
Sums SumsOf(const DiskUsage& usage) {
  Sums sums;
  for (const JobUsage& job : usage.jobs) {
    sums.bytes += job.bytes;
    for (const CheckpointUsage& one : job.checkpoints) {
      ++(one.committed ? sums.checkpoints : sums.leftovers);
      if (!one.committed) sums.leftover_bytes += one.unique_bytes;
      if (one.quarantine.empty()) continue;
      ++sums.quarantined;
      sums.quarantined_bytes += one.unique_bytes;
    }
  }
  return sums;
}

Json DocumentOf(const std::string& data_dir, const DiskUsage& usage) {
  const Sums sums = SumsOf(usage);
  Json jobs = Json::array();
  for (const JobUsage& job : usage.jobs) {
    Json checkpoints = Json::array();
    for (const CheckpointUsage& one : job.checkpoints) {
      checkpoints.push_back({{"step", base::Str(one.step)},
                             {"generation", base::Str(one.generation)},
                             {"bytes", one.bytes},
                             {"unique_bytes", one.unique_bytes},
                             {"shared_bytes", one.shared_bytes()},
                             {"committed", one.committed},
                             {"pinned", one.pinned},
                             {"quarantine", one.quarantine.empty() ? Json() : Json(one.quarantine)},
                             {"directory", one.directory}});
    }
    jobs.push_back(
        {{"project", job.project}, {"job", job.job}, {"bytes", job.bytes}, {"checkpoints", std::move(checkpoints)}});
  }
  Json also = Json::array();
  for (const DiskUsage::Also& folder : usage.also) {
    also.push_back({{"path", folder.path},
                    {"disk_available_bytes", folder.space.available_bytes},
                    {"disk_total_bytes", folder.space.total_bytes}});
  }
  Json problems = Json::array();
  for (const base::Error& problem : usage.problems) problems.push_back(ErrorJson(problem));
  return {{"data_dir", data_dir},
          {"bytes", sums.bytes},
          {"checkpoints", sums.checkpoints},
          {"leftovers", sums.leftovers},
          {"leftover_bytes", sums.leftover_bytes},
          {"quarantined", sums.quarantined},
          {"quarantined_bytes", sums.quarantined_bytes},
          {"index_bytes", usage.index_bytes},
          {"runs_bytes", usage.runs_bytes},
          {"own_bytes", usage.own_bytes},
          {"disk_available_bytes", usage.space.available_bytes},
          {"disk_total_bytes", usage.space.total_bytes},
          {"also_data_dirs", std::move(also)},
          {"jobs", std::move(jobs)},
          {"problems", std::move(problems)}};
}

std::string StateText(const CheckpointUsage& one) {
  if (!one.committed) return "left over";
  std::string text = one.pinned ? "pinned" : "";
  if (!one.quarantine.empty()) text += std::string(text.empty() ? "" : ", ") + "quarantined";
  return text;
}

void PrintText(const std::string& data_dir, const DiskUsage& usage, bool by_job) {
  Table table({{"JOB"}, {"CHECKPOINT"}, {"SIZE", true}, {"FREES", true}, {"SHARED", true}, {"STATE"}});
  for (const JobUsage& job : usage.jobs) {
    table.Add({job.project + "/" + job.job,
               base::Str(job.checkpoints.size(), job.checkpoints.size() == 1 ? " checkpoint" : " checkpoints"),
               base::HumanBytes(job.bytes), base::HumanBytes(job.bytes), "", ""});
    if (by_job) continue;
    for (const CheckpointUsage& one : job.checkpoints) {
      table.Add({"", CheckpointDirectoryName(one.step, one.generation), base::HumanBytes(one.bytes),
                 base::HumanBytes(one.unique_bytes),
                 one.shared_bytes() == 0 ? std::string() : base::HumanBytes(one.shared_bytes()), StateText(one)});
    }
  }
  if (!usage.jobs.empty()) Print(table.Text() + "\n");
  const Sums sums = SumsOf(usage);
  const auto line = [](const std::string& name, const std::string& value) {
    Print(name + std::string(13 - name.size(), ' ') + value + "\n");
  };
  line("data dir", data_dir);
  line("checkpoints", base::Str(sums.checkpoints, ", ", base::HumanBytes(sums.bytes)));
  if (sums.leftovers > 0) line("left over", base::Str(sums.leftovers, ", ", base::HumanBytes(sums.leftover_bytes)));
  if (sums.quarantined > 0) {
    line("quarantined", base::Str(sums.quarantined, ", ", base::HumanBytes(sums.quarantined_bytes)));
  }
  line("index", base::HumanBytes(usage.index_bytes));
  line("logs",
       base::Str(base::HumanBytes(usage.runs_bytes), " of runs, ", base::HumanBytes(usage.own_bytes), " of belayd"));
  line("disk", base::Str(base::HumanBytes(usage.space.available_bytes), " free of ",
                         base::HumanBytes(usage.space.total_bytes)));
  for (const DiskUsage::Also& folder : usage.also) {
    line("also", base::Str(folder.path, ": ", base::HumanBytes(folder.space.available_bytes), " free of ",
                           base::HumanBytes(folder.space.total_bytes)));
  }
}

base::Result<int> RunDu(const Arguments& arguments) {
  const std::string job = arguments.Positional(0).value_or("");
  if (!job.empty()) BELAY_TRY(ValidateName("job", job));
  BELAY_ASSIGN(const Access access, OpenAccess(arguments, Need::kLook));
  const std::string project = access.all_projects && job.empty() ? std::string() : access.project;
  BELAY_ASSIGN(const DiskUsage usage, MeasureDiskUsage(base::PosixFileSystem(), access.data_dir, project, job));
  if (!job.empty() && usage.jobs.empty()) {
    return base::Fail(base::Code::kNotFound, "job ", job, " in project ", access.project, " has nothing in ",
                      access.data_dir, "; `belay ckpt du` shows what there is");
  }
  if (arguments.Has("json"))
    PrintDocument(DocumentOf(access.data_dir, usage));
  else
    PrintText(access.data_dir, usage, arguments.Has("by-job"));
  for (const base::Error& problem : usage.problems) Note(problem.Text());
  return usage.problems.empty() ? 0 : static_cast<int>(base::Describe(usage.problems.front().code).exit_status);
}

}  // namespace

Verb DuVerb() {
  return {
      "du",
      "what checkpoints cost on disk, and what deleting them frees",
      {"belay ckpt du [JOB]",
       "Shows the bytes of every job and checkpoint, largest first. Checkpoints of a job may share files as hard\n"
       "links: SIZE counts all of a checkpoint's files, FREES only those that no other checkpoint shares, which is\n"
       "what deleting it gives back. A job's own line counts each file once. Reads sizes only.",
       WithCommon({{"by-job", "", "leave out the single checkpoints"}}), 0, 1,
       "  belay ckpt du\n  belay ckpt du gpt --json | jq '.jobs[0].checkpoints[0].unique_bytes'\n"},
      RunDu};
}

}  // namespace belay::checkpoint::cli
