// belay ckpt list
#include "checkpoint/cli/documents.h"
#include "checkpoint/cli/verb.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::cli {
namespace {

std::string Where(const CheckpointInfo& info) { return info.in_memory ? "memory,disk" : "disk"; }

std::string StateOf(const CheckpointInfo& info) {
  if (!info.quarantine.empty()) return "quarantined";
  return info.trust.state == TrustState::kUnknown ? "" : std::string(TrustName(info.trust.state));
}

base::Result<int> RunList(const Arguments& arguments) {
  BELAY_ASSIGN(Access access, OpenAccess(arguments, Need::kLook));
  const std::string project = access.all_projects ? std::string() : access.project;
  const std::string job = arguments.Positional(0).value_or("");
  if (!job.empty()) BELAY_TRY(ValidateName("job", job));
  BELAY_ASSIGN(const auto all, ListAll(access, project, job));
  if (!job.empty() && all.empty()) {
    return base::Fail(base::Code::kNotFound, "job ", job, " has no committed checkpoint in ", access.data_dir,
                      "; `belay ckpt list` shows what there is");
  }
  if (arguments.Has("json")) {
    Json checkpoints = Json::array();
    for (const Listed& listed : all) checkpoints.push_back(CheckpointJson(listed));
    PrintDocument(
        {{"data_dir", access.data_dir}, {"daemon", access.client != nullptr}, {"checkpoints", std::move(checkpoints)}});
    return 0;
  }
  if (all.empty()) {
    Note("no checkpoints in " + access.data_dir);
    return 0;
  }
  Table table({{"JOB"},
               {"STEP", true},
               {"GEN", true},
               {"SIZE", true},
               {"AGE", true},
               {"REASON"},
               {"WORLD", true},
               {"WHERE"},
               {"PIN"},
               {"STATE"}});
  const base::WallTime now = base::SystemClock().WallNow();
  for (const Listed& listed : all) {
    const CheckpointInfo& info = listed.info;
    const JobKey& key = info.key.job;
    table.Add({key.project == access.project ? key.job : key.project + "/" + key.job, base::Str(info.key.step),
               base::Str(info.key.generation), base::HumanBytes(info.bytes), AgeText(info.created, now), info.reason,
               base::Str(info.world_size), Where(info), listed.pinned.value_or(false) ? "yes" : "", StateOf(info)});
  }
  Print(table.Text());
  for (const Listed& listed : all) {
    const CheckpointInfo& info = listed.info;
    const std::string name = base::Str(info.key.job.job, " step ", info.key.step);
    if (!info.quarantine.empty()) Note(base::Str(name, " is quarantined: ", info.quarantine));
    if (info.trust.state == TrustState::kSuspect) {
      Note(base::Str(name, " is suspect: ", info.trust.reason, "; `belay ckpt trust ", info.key.job.job, " ",
                     info.key.step, " good --generation ", info.key.generation, "` offers it again"));
    }
  }
  return 0;
}

}  // namespace

Verb ListVerb() {
  return {
      "list",
      "the committed checkpoints of all jobs or one",
      {"belay ckpt list [JOB]",
       "Lists committed checkpoints, the newest of each job first. WHERE says whether the bytes are still in belayd's\n"
       "memory too, PIN whether retention keeps the checkpoint. STATE says quarantined where damage was found, and "
       "suspect\n"
       "where resumes failed: neither is resumed from. It says good where a resume trained on. Without --project, "
       "jobs\n"
       "of all projects.",
       WithCommon({}), 0, 1, "  belay ckpt list\n  belay ckpt list gpt --json | jq -r '.checkpoints[0].directory'\n"},
      RunList};
}

}  // namespace belay::checkpoint::cli
