// Runs of a job: generations, the launcher that holds the job, the ranks attached, their staging memory.
#include <algorithm>
#include <utility>

#include "checkpoint/commit/core.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::commit {

using base::Code;
using base::Error;

namespace {

constexpr std::uint64_t kGenerationMax = std::uint64_t{1} << 62;  // of a job that this daemon does not know

base::Status CheckKey(const JobKey& key) {
  BELAY_TRY(ValidateName("project", key.project));
  return ValidateName("job", key.job);
}

base::Status CheckRun(std::int32_t world_size, const std::string& host) {
  if (world_size < 1 || world_size > kWorldSizeMax) {
    return base::Fail(Code::kLimitExceeded, "a world of ", world_size, " ranks: 1 to ", kWorldSizeMax, " are possible");
  }
  if (host.size() > kTextBytesMax) return base::Fail(Code::kLimitExceeded, "the host's name is too long");
  return {};
}

Error JobIsHeld(const JobKey& key, const Launcher& launcher) {
  return {Code::kJobBusy,
          base::Str("another run of job ", key, " is alive (launcher pid ", launcher.pid, " on ", launcher.host,
                    "); stop it first (belay stop), or choose another --job"),
          nullptr};
}

Error Stopping() { return Error{Code::kUnavailable, "belayd is stopping", nullptr}; }

}  // namespace

base::Status Core::CheckBeginRun(const RequestRef& ref, const BeginRun& request) const {
  if (state_.stopping) return tl::unexpected<Error>(Stopping());
  BELAY_TRY(CheckKey(request.job));
  BELAY_TRY(CheckRun(request.world_size, request.host));
  BELAY_TRY(CheckOwner(ref.connection, request.job));
  const auto found = state_.jobs.find(request.job);
  if (request.continues > (found == state_.jobs.end() ? base::Generation(kGenerationMax) : found->second.generation)) {
    return base::Fail(Code::kInvalidArgument, "job ", request.job, " has never had generation ", request.continues);
  }
  if (found == state_.jobs.end()) return {};
  const Job& job = found->second;
  // One whose launcher has gone waits for nobody, and gives way while it is not being stored.
  if (job.beginning && !(job.beginning->abandoned && !job.beginning->persisting)) {
    return base::Fail(Code::kJobBusy, "another run of job ", request.job, " is just beginning (launcher pid ",
                      job.beginning->launcher.pid, ")");
  }
  if (request.continues.value() != 0 && request.continues < job.generation) {
    return base::Fail(Code::kStaleGeneration, "job ", request.job, " is at generation ", job.generation,
                      ": a newer run has begun since generation ", request.continues);
  }
  if (job.launcher && job.launcher->connection != ref.connection &&
      !(request.continues == job.generation && job.launcher->pid == request.pid)) {
    return tl::unexpected<Error>(JobIsHeld(request.job, *job.launcher));
  }
  return {};
}

void Core::Handle(const RequestRef& ref, const BeginRun& request) {
  if (auto allowed = CheckBeginRun(ref, request); !allowed) return Answer(ref, allowed.error());
  const bool is_new = !state_.jobs.contains(request.job);
  Job& job = state_.jobs[request.job];
  if (is_new) job.owner_uid = state_.connections.at(ref.connection).uid;
  job.last_used = now_;
  job.free_when_idle = false;
  job.launcher.reset();
  const std::uint64_t base = std::max(job.generation.value(), request.continues.value());
  job.beginning = Beginning{
      ref,  Launcher{ref.connection, request.pid, request.host}, request.world_size, base::Generation(base + 1), false,
      false};
  job.attached.clear();  // whoever comes again must know the new generation
  for (HeldBegin& held : std::exchange(job.held_begins, {})) {
    Answer(held.ref, Error{Code::kStaleGeneration, "a newer run of this job has begun", nullptr});
  }
  FailUnsealed(request.job, Error{Code::kCancelled, "a new run began before every rank had sealed it", nullptr});
  ContinueBeginning(request.job);
}

void Core::ContinueBeginning(const JobKey& key) {
  Job& job = state_.jobs.at(key);
  if (!job.beginning || job.beginning->persisting || !job.snapshots.empty()) return;
  if (Removing(job)) return;  // the sweep that comes with the new generation must not meet a deletion
  job.beginning->persisting = true;
  Do(PersistGeneration{key, job.beginning->generation, job.owner_uid});
}

void Core::Handle(const GenerationPersisted& event) {
  Job& job = state_.jobs.at(event.job);
  const Beginning beginning = *std::exchange(job.beginning, std::nullopt);
  if (event.error) {
    return Answer(
        beginning.ref, *event.error,
        base::Str("job ", event.job, " cannot begin generation ", event.generation, ": ", event.error->Text()));
  }
  job.generation = event.generation;
  if (event.found) {
    for (const auto& [id, info] : event.found->checkpoints) job.committed.try_emplace(id, Committed{info});
  }
  job.world_size = beginning.world_size;
  job.refusal.reset();
  DropUnusedBuffers(event.job);
  if (beginning.abandoned) return;
  job.launcher = beginning.launcher;
  RunGrant grant{event.generation, std::nullopt};
  const std::vector<RestorePoint> points = PointsOf(job);
  if (!points.empty() && !points.front().suspect) grant.newest_step = points.front().id.step;
  grant.suspects = static_cast<std::uint32_t>(std::ranges::count(points, true, &RestorePoint::suspect));
  Answer(beginning.ref, grant,
         base::Str("job ", event.job, " began generation ", event.generation, " with ", job.world_size, " ranks"));
}

base::Status Core::CheckHoldRun(const RequestRef& ref, const HoldRun& request) const {
  if (state_.stopping) return tl::unexpected<Error>(Stopping());
  BELAY_TRY(CheckKey(request.job));
  BELAY_TRY(CheckRun(request.world_size, request.host));
  const auto found = state_.jobs.find(request.job);
  if (found == state_.jobs.end()) return base::Fail(Code::kNotFound, "no job ", request.job);
  BELAY_TRY(CheckOwner(ref.connection, request.job));
  const Job& job = found->second;
  if (request.generation > job.generation) {
    return base::Fail(Code::kInvalidArgument, "job ", request.job, " has never had generation ", request.generation);
  }
  if (request.generation < job.generation || job.beginning) {
    return base::Fail(Code::kStaleGeneration, "job ", request.job, " is at generation ", job.generation,
                      ": a newer run has begun since generation ", request.generation);
  }
  if (job.launcher && job.launcher->connection != ref.connection && job.launcher->pid != request.pid) {
    return tl::unexpected<Error>(JobIsHeld(request.job, *job.launcher));
  }
  return {};
}

void Core::Handle(const RequestRef& ref, const HoldRun& request) {
  if (auto allowed = CheckHoldRun(ref, request); !allowed) return Answer(ref, allowed.error());
  Job& job = state_.jobs.at(request.job);
  job.launcher = Launcher{ref.connection, request.pid, request.host};
  if (job.world_size == 0) job.world_size = request.world_size;
  job.last_used = now_;
  Answer(ref, Done{},
         base::Str("job ", request.job, " generation ", request.generation, " is held by its launcher (pid ",
                   request.pid, ") again"));
}

void Core::Handle(const RequestRef& ref, const EndRun& request) {
  Job* job = FindJob(request.job);
  if (job == nullptr) return Answer(ref, Error{Code::kNotFound, base::Str("no job ", request.job), nullptr});
  if (auto allowed = CheckOwner(ref.connection, request.job); !allowed) return Answer(ref, allowed.error());
  if (request.generation != job->generation || job->beginning) {
    return Answer(
        ref, Error{Code::kStaleGeneration,
                   base::Str("job ", request.job, " is at generation ", job->generation, ", not ", request.generation),
                   nullptr});
  }
  job->launcher.reset();
  FailUnsealed(request.job, Error{Code::kCancelled, "the run ended before every rank had sealed it", nullptr});
  // A run that is done will not come back for its memory. Another may resume from it within the moment.
  job->free_when_idle = request.outcome == "done";
  Answer(ref, Done{},
         base::Str("job ", request.job, " generation ", request.generation,
                   " ended: ", request.outcome.substr(0, kTextBytesMax)));
  FreeStagingIfIdle(request.job);
}

base::Status Core::CheckAttach(const RequestRef& ref, const Attach& request) const {
  if (state_.stopping) return tl::unexpected<Error>(Stopping());
  BELAY_TRY(CheckKey(request.job));
  const auto found = state_.jobs.find(request.job);
  if (found == state_.jobs.end()) return base::Fail(Code::kNotFound, "no run of job ", request.job, " has begun");
  BELAY_TRY(CheckOwner(ref.connection, request.job));
  const Job& job = found->second;
  if (request.generation < job.generation || job.beginning) {
    return base::Fail(Code::kStaleGeneration, "job ", request.job, " is at generation ", job.generation,
                      ": a newer run has begun since generation ", request.generation);
  }
  if (request.generation > job.generation) {
    return base::Fail(Code::kInvalidArgument, "job ", request.job, " is at generation ", job.generation,
                      "; generation ", request.generation, " has never begun");
  }
  if (request.world_size < 1 || request.world_size > kWorldSizeMax ||
      (job.world_size != 0 && request.world_size != job.world_size)) {
    return base::Fail(Code::kInvalidArgument, "rank ", request.rank, " believes in a world of ", request.world_size,
                      " ranks; the run began with ", job.world_size);
  }
  if (request.rank.value() < 0 || request.rank.value() >= request.world_size) {
    return base::Fail(Code::kInvalidArgument, "no rank ", request.rank, " in a world of ", request.world_size);
  }
  if (request.staging_bytes == 0) return base::Fail(Code::kInvalidArgument, "no staging memory was asked for");
  if (request.staging_bytes > (std::uint64_t{1} << 46)) {
    return base::Fail(Code::kLimitExceeded, "staging memory of ", request.staging_bytes, " bytes is over the limit");
  }
  if (request.window_bytes_min > (std::uint64_t{1} << 40)) {
    return base::Fail(Code::kLimitExceeded, "a window of ", request.window_bytes_min, " bytes is over the limit");
  }
  const auto& own = state_.connections.at(ref.connection).attachment;
  if (own && own->generation == request.generation && (own->job != request.job || own->rank != request.rank)) {
    return base::Fail(Code::kInvalidArgument, "this connection is rank ", own->rank, " of job ", own->job, " already");
  }
  return {};
}

std::uint64_t Core::StagingBytesHeld() const {
  std::uint64_t bytes = 0;
  for (const auto& [key, job] : state_.jobs) {
    for (const auto& [rank, slot] : job.staging) bytes += slot.BytesHeld();
  }
  return bytes;
}

// Frees, if needed, staging memory that no live run uses, longest unused first; nothing if that would not be enough. A
// snapshot that is in memory only stays, unless it belongs to the same user.
base::Status Core::MakeRoomForStaging(const JobKey& key, base::Rank rank, std::int32_t world_size, std::uint64_t bytes,
                                      std::uint64_t spare_bytes) {
  const Job& own = state_.jobs.at(key);
  const auto slot = own.staging.find(rank);
  MemoryDemand demand{bytes,
                      StagingBytesHeld() - (slot == own.staging.end() ? 0 : slot->second.BytesHeld()),
                      config_.memory_budget_bytes,
                      spare_bytes,
                      world_size,
                      0};
  if (AdmitStaging(demand)) return {};
  const auto others = std::ranges::count_if(
      own.staging, [&](const auto& entry) { return entry.first != rank && entry.first.value() < world_size; });
  demand.absent_ranks = static_cast<std::uint64_t>(world_size - 1 - others);
  std::vector<JobKey> idle;
  for (const auto& [other, job] : state_.jobs) {
    if (other == key || job.staging.empty() || job.launcher || job.beginning || !job.attached.empty() ||
        !job.snapshots.empty()) {
      continue;
    }
    const bool only_copy = job.memory && !job.committed.contains(job.memory->id);
    if (!only_copy || job.owner_uid == own.owner_uid) idle.push_back(other);
  }
  std::sort(idle.begin(), idle.end(), [this](const JobKey& a, const JobKey& b) {
    return state_.jobs.at(a).last_used < state_.jobs.at(b).last_used;
  });
  std::size_t enough = 0;
  while (!AdmitStaging(demand)) {
    if (enough == idle.size()) return AdmitStaging(demand);
    for (const auto& [other, freed] : state_.jobs.at(idle[enough]).staging) demand.held_bytes -= freed.BytesHeld();
    ++enough;
  }
  for (std::size_t i = 0; i < enough; ++i) FreeStagingOf(idle[i], base::Str("job ", key, " needs the memory"));
  return {};
}

// A process of an older generation that is still connected, or was to the daemon before a restart, has this rank's
// memory mapped and may be copying into it, hung and awake again: it keeps that memory to itself.
bool Core::HeldByOlderRun(ConnectionId connection, const Attach& request) const {
  const std::int32_t pid = state_.connections.at(connection).pid;
  const Job& job = state_.jobs.at(request.job);
  if (const auto slot = job.staging.find(request.rank); slot != job.staging.end() && slot->second.former) {
    const FormerHolder& former = *slot->second.former;
    if (former.generation < request.generation && former.pid != pid) return true;
  }
  return std::any_of(state_.connections.begin(), state_.connections.end(), [&](const auto& entry) {
    const auto& [id, other] = entry;
    return other.attachment && other.attachment->job == request.job && other.attachment->rank == request.rank &&
           other.attachment->generation < request.generation && other.pid != pid;
  });
}

// The rank wants its memory on another node than it was made for. Pages that are there are not moved: the kernel leaves
// what several processes have mapped or a GPU has registered. It is made anew instead, where no snapshot is lost by it.
bool Core::Misplaced(const Job& job, const StagingSlot& slot, const Attach& request) const {
  if (!request.numa_node || request.numa_node == slot.numa_node || !job.snapshots.empty()) return false;
  if (!job.memory) return true;
  const auto durable = job.committed.find(job.memory->id);
  return durable != job.committed.end() && durable->second.Sound();
}

void Core::Handle(const RequestRef& ref, const Attach& request) {
  if (auto allowed = CheckAttach(ref, request); !allowed) return Answer(ref, allowed.error());
  Job& job = state_.jobs.at(request.job);
  job.free_when_idle = false;
  // Before anything of the job is looked at: what the former holder of the rank leaves behind may change it.
  if (const auto holder = job.attached.find(request.rank);
      holder != job.attached.end() && holder->second != ref.connection) {
    DetachConnection(ConnectionId(holder->second), base::Str("rank ", request.rank, " attached again"));
  }
  // Large ones in whole huge pages, so that the daemon can take those where the machine grants them.
  const std::uint64_t bytes = base::AlignUp(
      request.staging_bytes, request.staging_bytes < 64 * base::kMiB ? kStagingAlignment : 2 * base::kMiB);

  if (job.snapshots.empty() && (!job.memory || !InMemory(job, job.memory->id))) FreeStagingOfFormerWorld(request.job);
  const auto found = job.staging.find(request.rank);
  const bool fits = found != job.staging.end() && found->second.image_bytes == bytes &&
                    (!found->second.IsWindow() ||
                     (request.window_bytes_min > 0 && request.window_bytes_min <= found->second.bytes)) &&
                    !HeldByOlderRun(ref.connection, request) && !Misplaced(job, found->second, request) &&
                    !Outgrown(job, found->second);
  if (found != job.staging.end() && (!found->second.buffers.front().allocated || (!fits && !job.snapshots.empty()))) {
    return Answer(ref,
                  Error{Code::kBusy, base::Str("the staging memory of rank ", request.rank, " is in use"), nullptr});
  }
  std::uint64_t granted = fits ? found->second.bytes : bytes;
  if (!fits) {
    const auto room = GrantStaging(request, bytes);
    if (!room) return Answer(ref, room.error());
    granted = *room;
  }
  job.world_size = request.world_size;
  job.retention = request.retention;
  job.has_retention = true;
  job.last_used = now_;
  job.attached[request.rank] = ref.connection;
  state_.connections.at(ref.connection).attachment =
      Attachment{request.job, request.generation, request.rank, request.layout_fingerprint};

  if (fits) {
    found->second.former.reset();  // it is this one now, or an earlier connection of this one
    found->second.takes_more = request.takes_more_buffers;
  }
  if (fits) return Answer(ref, Attached{request.job, request.rank, granted, true});
  if (found != job.staging.end()) {
    Do(FreeStaging{request.job, request.rank},
       base::Str(
           "rank ", request.rank, " of job ", request.job,
           " needs other staging memory: another size, on another NUMA node, or one that no older run has mapped"));
    job.staging.erase(found);
    job.memory.reset();
  }
  job.staging[request.rank] = StagingSlot{granted, bytes, request.numa_node, std::nullopt, request.takes_more_buffers};
  Do(AllocateStaging{ref, request.job, request.rank, granted, request.numa_node},
     base::Str("rank ", request.rank, " of job ", request.job, " gets ", base::HumanBytes(granted),
               " of staging memory", request.numa_node ? base::Str(" for NUMA node ", *request.numa_node) : "",
               granted == bytes ? std::string() : base::Str(" for ", base::HumanBytes(bytes), ", to save in waves")));
}

void Core::Handle(const StagingAllocated& event) {
  Job& job = state_.jobs.at(event.job);
  const auto slot = job.staging.find(event.rank);
  if (slot == job.staging.end()) return;
  if (event.buffer > 0) return AddBuffer(slot->second, event);
  if (event.error) {
    job.staging.erase(slot);
    DetachConnection(event.ref.connection, "no staging memory");
    return Answer(event.ref, *event.error, event.error->Text());
  }
  slot->second.buffers.front().allocated = true;
  Answer(event.ref, Attached{event.job, event.rank, slot->second.bytes, false});
}

void Core::DetachConnection(ConnectionId connection, const std::string& why) {
  const auto peer = state_.connections.find(connection);
  if (peer == state_.connections.end() || !peer->second.attachment) return;
  const Attachment attachment = *std::exchange(peer->second.attachment, std::nullopt);
  Job& job = state_.jobs.at(attachment.job);
  const auto holder = job.attached.find(attachment.rank);
  if (holder == job.attached.end() || holder->second != connection) return;  // somebody newer holds the rank
  job.attached.erase(holder);
  job.last_used = now_;
  for (const CheckpointId id : UnderWay(job)) {
    const Snapshot& snapshot = job.snapshots.at(id);
    if (snapshot.failure) continue;
    const auto part = snapshot.parts.find(attachment.rank);
    if (part != snapshot.parts.end() && part->second.phase == PartPhase::kFilling) {
      FailSnapshot(
          attachment.job, id,
          Error{Code::kCancelled, base::Str("rank ", attachment.rank, " left while it copied: ", why), nullptr});
    } else if (job.attached.empty() && !snapshot.SealedByAll()) {
      FailSnapshot(attachment.job, id, Error{Code::kCancelled, "every rank left before all had sealed it", nullptr});
    }
  }
  FreeStagingIfIdle(attachment.job);
}

// Ranks of a former, larger world leave memory that this run does not use. No snapshot of theirs may be under way.
void Core::FreeStagingOfFormerWorld(const JobKey& key) {
  Job& job = state_.jobs.at(key);
  if (job.world_size == 0) return;
  for (auto slot = job.staging.begin(); slot != job.staging.end();) {
    if (slot->first.value() < job.world_size) {
      ++slot;
      continue;
    }
    Do(FreeStaging{key, slot->first});
    slot = job.staging.erase(slot);
  }
}

void Core::FreeStagingIfIdle(const JobKey& key) {
  Job& job = state_.jobs.at(key);
  if (!job.free_when_idle || !job.attached.empty() || !job.snapshots.empty() || job.staging.empty()) return;
  FreeStagingOf(key, "its run is done");
}

void Core::FreeStagingOf(const JobKey& key, const std::string& why) {
  Job& job = state_.jobs.at(key);
  std::string reason = base::Str("the staging memory of job ", key, " is freed: ", why);
  for (const auto& [rank, slot] : job.staging) Do(FreeStaging{key, rank}, std::exchange(reason, {}));
  job.staging.clear();
  job.memory.reset();
}

}  // namespace belay::checkpoint::commit
