// Damage in committed checkpoints: repaired from memory where that is still whole, else quarantined.
#include <utility>

#include "checkpoint/commit/core.h"
#include "checkpoint/format/manifest.h"

namespace belay::checkpoint::commit {

using base::Code;
using base::Error;

void Core::SetQuarantine(const RequestRef& ref, const JobKey& key, CheckpointId id, const std::string& reason) {
  // From now on, not from when the mark is durable: nobody shall resume from it in between.
  if (!reason.empty()) state_.jobs.at(key).committed.at(id).info.quarantine = reason;
  Do(PersistQuarantine{ref, key, id, reason});
}

void Core::Handle(const RequestRef& ref, const QuarantineCheckpoint& request) {
  Job* job = FindJob(request.job);
  if (job == nullptr) return Answer(ref, Error{Code::kNotFound, base::Str("no job ", request.job), nullptr});
  if (auto allowed = CheckOwner(ref.connection, request.job); !allowed) return Answer(ref, allowed.error());
  const auto id = Resolve(*job, request.step, request.generation);
  if (!id || !job->committed.contains(*id)) {
    return Answer(
        ref, Error{Code::kNotFound,
                   base::Str("job ", request.job, " has no committed checkpoint of step ", request.step), nullptr});
  }
  SetQuarantine(ref, request.job, *id, request.reason.substr(0, kTextBytesMax));
}

void Core::Handle(const DamageFound& event) {
  Job* job = FindJob(event.job);
  if (job == nullptr) return;
  const auto found = job->committed.find(event.id);
  if (found == job->committed.end() || found->second.removing) return;  // it went while it was read
  if (!found->second.info.quarantine.empty()) return;                   // known already
  if (!InMemory(*job, event.id)) return SetQuarantine({}, event.job, event.id, event.what);
  MemoryFile file{event.file, base::Rank(0), 0, 0, nullptr};
  if (event.file != kManifestName) {
    const std::map<std::string, MemoryFile> files = MemoryFilesOf(*job);
    const auto same = files.find(event.file);
    if (same == files.end()) return SetQuarantine({}, event.job, event.id, event.what);
    file = same->second;
  }
  ++found->second.repairs_running;
  Do(RepairFile{event.job, event.id, std::move(file), job->memory->manifest, event.what},
     base::Str("repairing ", event.file, " of ", event.id, " of job ", event.job, " from memory: ", event.what));
}

void Core::Handle(const RepairFinished& event) {
  Job* job = FindJob(event.job);
  if (job == nullptr) return;
  const auto found = job->committed.find(event.id);
  if (found == job->committed.end()) return;
  if (found->second.repairs_running > 0) --found->second.repairs_running;
  if (!event.error) {
    return Do(Note{}, base::Str("repaired ", event.file, " of ", event.id, " of job ", event.job, " from memory"));
  }
  if (found->second.removing) return;
  SetQuarantine({}, event.job, event.id,
                base::Str(event.damage, "; a repair from memory failed: ", event.error->Text()));
}

void Core::Handle(const QuarantineFinished& event) {
  const bool lifted = event.reason.empty();
  if (Job* job = FindJob(event.job); job != nullptr && !event.error) {
    const auto found = job->committed.find(event.id);
    if (found != job->committed.end()) found->second.info.quarantine = event.reason;
  }
  // A mark that could not be written: it stays out of reach until the next start, whose scrubber finds it again.
  const std::string what = base::Str(lifted ? "the quarantine is lifted of " : "quarantined ", event.id, " of job ",
                                     event.job, lifted ? "" : ": ", event.reason);
  if (event.error) Do(Note{}, base::Str(what, " (not durably: ", event.error->Text(), ")"));
  if (event.error) return Answer(event.ref, *event.error);
  Do(Note{}, what);
  Answer(event.ref, Done{});
}

}  // namespace belay::checkpoint::commit
