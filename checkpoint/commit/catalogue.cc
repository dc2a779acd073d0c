// What is committed or in memory: listing, restoring, pinning, removing, retention.
#include <algorithm>
#include <utility>

#include "checkpoint/commit/core.h"
#include "checkpoint/commit/retention.h"

namespace belay::checkpoint::commit {

using base::Code;
using base::Error;

namespace {

Error NoSuchJob(const JobKey& key) { return Error{Code::kNotFound, base::Str("no job ", key), nullptr}; }
Error NoSuchCheckpoint(const JobKey& key, base::Step step) {
  return Error{Code::kNotFound, base::Str("job ", key, " has no checkpoint of step ", step), nullptr};
}

}  // namespace

bool Core::Removing(const Job& job) {
  return std::any_of(job.committed.begin(), job.committed.end(),
                     [](const auto& entry) { return entry.second.removing; });
}

bool Core::InMemory(const Job& job, CheckpointId id) const {
  if (!job.memory || job.memory->id != id) return false;
  for (std::int32_t rank = 0; rank < job.memory->world_size; ++rank) {
    const auto slot = job.staging.find(base::Rank(rank));
    if (slot == job.staging.end() || !slot->second.Holds(id, job.memory->buffer)) return false;
  }
  return true;
}

bool Core::InUse(const JobKey& key, CheckpointId id) const {
  return std::any_of(state_.connections.begin(), state_.connections.end(), [&](const auto& entry) {
    return entry.second.reading.contains({key, id});
  });
}

// The restores of a process end when it begins to save: every connection of it counts.
void Core::StopReadingIn(std::int32_t pid) {
  for (auto& [id, connection] : state_.connections) {
    if (connection.pid == pid) connection.reading.clear();
  }
}

std::vector<RestorePoint> Core::PointsOf(const Job& job) const {
  std::vector<RestorePoint> points;
  for (const auto& [id, committed] : job.committed) {
    if (committed.Sound()) {
      points.push_back({id, InMemory(job, id), committed.info.world_size, true, committed.Suspect()});
    }
  }
  if (job.memory && InMemory(job, job.memory->id)) {
    const auto same = job.committed.find(job.memory->id);
    const bool memory_only = same == job.committed.end() || (!same->second.removing && !same->second.Sound());
    if (memory_only) {
      const Trust& trust = same == job.committed.end() ? job.memory->trust : same->second.info.trust;
      points.push_back({job.memory->id, true, job.memory->world_size, false, trust.state == TrustState::kSuspect});
    }
  }
  std::sort(points.begin(), points.end(), [](const RestorePoint& a, const RestorePoint& b) {
    return a.suspect != b.suspect ? b.suspect : a.id > b.id;
  });
  return points;
}

void Core::Handle(const RequestRef& ref, const RestorePoints& request) {
  if (auto allowed = CheckOwner(ref.connection, request.job); !allowed) return Answer(ref, allowed.error());
  const Job* job = FindJob(request.job);
  Answer(ref, job == nullptr ? std::vector<RestorePoint>{} : PointsOf(*job));
}

std::optional<CheckpointId> Core::Resolve(const Job& job, base::Step step, base::Generation generation) const {
  std::optional<CheckpointId> found;
  for (const RestorePoint& point : PointsOf(job)) {  // newest first
    if (point.id.step != step) continue;
    if (generation.value() != 0 && point.id.generation != generation) continue;
    if (!found) found = point.id;
  }
  // Not offered, but who names a quarantined one may look at it.
  for (auto entry = job.committed.rbegin(); !found && entry != job.committed.rend(); ++entry) {
    const auto& [id, committed] = *entry;
    if (committed.removing || id.step != step) continue;
    if (generation.value() == 0 || id.generation == generation) found = id;
  }
  return found;
}

void Core::Handle(const RequestRef& ref, const OpenCheckpoint& request) {
  Job* job = FindJob(request.job);
  if (job == nullptr) return Answer(ref, NoSuchJob(request.job));
  if (auto allowed = CheckOwner(ref.connection, request.job); !allowed) return Answer(ref, allowed.error());
  if (request.files.size() > base::kDescriptorsMax) {
    return Answer(ref, Error{Code::kLimitExceeded,
                             base::Str("at most ", base::kDescriptorsMax, " files are opened at once"), nullptr});
  }
  const auto id = Resolve(*job, request.step, request.generation);
  if (!id) return Answer(ref, NoSuchCheckpoint(request.job, request.step));
  if (request.from_memory && !InMemory(*job, *id)) {
    return Answer(ref, Error{Code::kNotFound, base::Str("checkpoint ", *id, " is not in memory any more"), nullptr});
  }
  if (!request.from_memory && !job->committed.contains(*id)) {
    return Answer(ref, Error{Code::kNotFound, base::Str("checkpoint ", *id, " is in memory only"), nullptr});
  }
  state_.connections.at(ref.connection).reading.insert({request.job, *id});
  if (request.from_memory) return OpenMemory(ref, request.job, *job, *id, request.files);
  Do(OpenFromDisk{ref, request.job, *id, request.files});
}

// Of what InMemory is true of.
std::map<std::string, MemoryFile> Core::MemoryFilesOf(const Job& job) {
  const std::size_t number = job.memory->buffer;
  std::map<std::string, MemoryFile> all;
  for (const auto& [rank, slot] : job.staging) {
    if (!slot.Holds(job.memory->id, number)) continue;
    const StagingBuffer& buffer = slot.buffers[number];
    for (const SealedFile& file : buffer.files)
      all[file.name] = MemoryFile{file.name, rank, file.offset, file.bytes, nullptr, number};
    const std::string name = RecordsFileName(rank);
    all[name] = MemoryFile{name, rank, 0, buffer.records->size(), buffer.records, number};
  }
  return all;
}

void Core::OpenMemory(const RequestRef& ref, const JobKey& key, const Job& job, CheckpointId id,
                      const std::vector<std::string>& names) {
  const std::map<std::string, MemoryFile> all = MemoryFilesOf(job);
  OpenFromMemory open{ref, key, id, job.memory->manifest, {}};
  for (const std::string& name : names) {
    const auto file = all.find(name);
    if (file == all.end()) {
      return Answer(ref, Error{Code::kNotFound,
                               base::Str("checkpoint ", id, " has no file '", name.substr(0, 200), "'"), nullptr});
    }
    open.files.push_back(file->second);
  }
  Do(std::move(open));
}

void Core::Handle(const RequestRef& ref, const ListCheckpoints& request) {
  std::vector<CheckpointInfo> list;
  for (const auto& [key, job] : state_.jobs) {
    if (!request.project.empty() && key.project != request.project) continue;
    if (!request.job.empty() && key.job != request.job) continue;
    if (!CheckOwner(ref.connection, key)) continue;
    for (const auto& [id, committed] : job.committed) {
      if (!committed.removing) list.push_back({key, id, committed.info, InMemory(job, id)});
    }
  }
  Answer(ref, std::move(list));
}

void Core::Handle(const RequestRef& ref, const PinCheckpoint& request) {
  Job* job = FindJob(request.job);
  if (job == nullptr) return Answer(ref, NoSuchJob(request.job));
  if (auto allowed = CheckOwner(ref.connection, request.job); !allowed) return Answer(ref, allowed.error());
  const auto id = Resolve(*job, request.step, request.generation);
  if (!id || !job->committed.contains(*id)) return Answer(ref, NoSuchCheckpoint(request.job, request.step));
  if (request.pinned) ++job->committed.at(*id).pins_under_way;
  Do(PersistPin{ref, request.job, *id, request.pinned});
}

void Core::Handle(const PinFinished& event) {
  if (Job* job = FindJob(event.job); job != nullptr) {
    const auto found = job->committed.find(event.id);
    if (found != job->committed.end()) {
      Committed& committed = found->second;
      if (event.pinned && committed.pins_under_way > 0) --committed.pins_under_way;  // 0: a reindex came between
      if (!event.error) committed.info.pinned = event.pinned;
    }
  }
  if (event.error) return Answer(event.ref, *event.error);
  Answer(event.ref, Done{}, base::Str(event.pinned ? "pinned " : "unpinned ", event.id, " of job ", event.job));
}

void Core::Handle(const RequestRef& ref, const RemoveCheckpoint& request) {
  Job* job = FindJob(request.job);
  if (job == nullptr) return Answer(ref, NoSuchJob(request.job));
  if (auto allowed = CheckOwner(ref.connection, request.job); !allowed) return Answer(ref, allowed.error());
  const auto id = Resolve(*job, request.step, request.generation);
  if (!id || !job->committed.contains(*id)) return Answer(ref, NoSuchCheckpoint(request.job, request.step));
  Committed& committed = job->committed.at(*id);
  if (!request.force) {
    std::string why;
    if (committed.Pinned()) why = "it is pinned";
    // What is in memory only does not count: it goes with the daemon.
    const auto newest = std::find_if(job->committed.rbegin(), job->committed.rend(),
                                     [](const auto& entry) { return entry.second.Sound() && !entry.second.Suspect(); });
    if (newest != job->committed.rend() && newest->first == *id) why = "it is the newest of its job that is on disk";
    const bool in_use = why.empty() && InUse(request.job, *id);
    if (in_use) why = "a restore has it open";
    if (!why.empty()) {
      return Answer(ref, Error{in_use ? Code::kBusy : Code::kInvalidArgument,
                               base::Str("checkpoint ", *id, " of job ", request.job, " is not removed: ", why,
                                         " (--force does it)"),
                               nullptr});
    }
  }
  committed.removing = true;
  if (job->memory && job->memory->id == *id) job->memory.reset();
  job->remove_waiters[*id].push_back(ref);
  Do(DeleteCheckpoint{request.job, *id}, base::Str("removing ", *id, " of job ", request.job, ": asked to"));
}

std::size_t Core::ApplyRetention(const JobKey& key) {
  Job& job = state_.jobs.at(key);
  if (!job.has_retention) return 0;
  std::vector<RetentionCandidate> candidates;
  for (const auto& [id, committed] : job.committed) {
    if (committed.removing) continue;
    candidates.push_back({id, committed.Pinned(), InUse(key, id) || committed.repairs_running > 0,
                          !committed.info.quarantine.empty() || committed.Suspect(), committed.info.metrics});
  }
  const std::vector<CheckpointId> deletions = ChooseDeletions(candidates, job.retention);
  for (const CheckpointId& id : deletions) {
    job.committed.at(id).removing = true;
    Do(DeleteCheckpoint{key, id}, base::Str("removing ", id, " of job ", key, ": newer checkpoints replace it"));
  }
  return deletions.size();
}

void Core::Handle(const RemoveFinished& event) {
  Job& job = state_.jobs.at(event.job);
  if (event.error) {
    const auto found = job.committed.find(event.id);
    if (found != job.committed.end()) found->second.removing = false;
  } else {
    job.committed.erase(event.id);
  }
  for (const RequestRef& ref : std::exchange(job.remove_waiters[event.id], {})) {
    if (event.error)
      Answer(ref, *event.error);
    else
      Answer(ref, Done{});
  }
  job.remove_waiters.erase(event.id);
  if (Removing(job)) return;
  ContinueBeginning(event.job);
  for (const HeldBegin& held : std::exchange(job.held_begins, {})) {
    Handle(held.ref, held.request, event.space, true);
  }
}

void Core::Handle(const RequestRef& ref, const Reindex& /*request*/) {
  const std::uint32_t uid = state_.connections.at(ref.connection).uid;
  if (uid != 0 && uid != config_.daemon_uid) {
    return Answer(ref,
                  Error{Code::kPermissionDenied, "only root and the daemon's own user may rebuild the index", nullptr});
  }
  Do(RebuildIndex{ref}, "rebuilding the index from the files");
}

// The files' word replaces ours, but for what began since: deletions and pins under way.
void Core::Handle(const ReindexFinished& event) {
  if (event.error) return Answer(event.ref, *event.error, event.error->Text());
  ReindexReport report{0, event.problems};
  for (auto& [key, job] : state_.jobs) {
    if (!event.catalogue.contains(key)) job.committed.clear();
  }
  for (const auto& [key, found] : event.catalogue) {
    const bool is_new = !state_.jobs.contains(key);
    Job& job = state_.jobs[key];
    if (is_new) job.owner_uid = found.owner_uid;
    job.generation = std::max(job.generation, found.generation);
    std::map<CheckpointId, Committed> committed;
    for (const auto& [id, info] : found.checkpoints) {
      const auto old = job.committed.find(id);
      committed[id] = Committed{info};
      if (old == job.committed.end()) continue;
      committed[id].removing = old->second.removing;
      committed[id].pins_under_way = old->second.pins_under_way;
      committed[id].repairs_running = old->second.repairs_running;
      committed[id].trust_marks_under_way = old->second.trust_marks_under_way;
      if (old->second.trust_marks_under_way > 0) committed[id].info.trust = old->second.info.trust;
    }
    job.committed = std::move(committed);
    report.checkpoints += job.committed.size();
  }
  Answer(event.ref, std::move(report), "the index is rebuilt");
}

}  // namespace belay::checkpoint::commit
