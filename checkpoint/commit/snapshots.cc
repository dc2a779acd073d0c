// A snapshot's way from the first BeginSnapshot to its commit or failure.
#include <algorithm>
#include <set>
#include <utility>

#include "checkpoint/commit/core.h"
#include "runtime/base/check.h"

namespace belay::checkpoint::commit {

using base::Code;
using base::Error;

namespace {

constexpr std::size_t kOutcomesKept = 16;
constexpr std::string_view kFileNameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";

Error Refused(Code code, std::string message) { return Error{code, std::move(message), nullptr}; }

}  // namespace

base::Result<Attachment> Core::AttachmentOf(ConnectionId connection) const {
  const auto& own = state_.connections.at(connection).attachment;
  if (!own) return base::Fail(Code::kInvalidArgument, "this connection is not attached as a rank");
  const Job& job = state_.jobs.at(own->job);
  if (own->generation != job.generation || job.beginning) {
    return base::Fail(Code::kStaleGeneration, "a newer run of job ", own->job, " has begun since generation ",
                      own->generation);
  }
  return *own;
}

void Core::RefuseBegin(const RequestRef& ref, const JobKey& key, base::Rank rank, base::Step step, Error error) {
  Job& job = state_.jobs.at(key);
  if (!job.refusal || job.refusal->step != step || job.refusal->told.contains(rank)) {
    job.refusal = Refusal{step, error, {}};
  }
  job.refusal->told.insert(rank);
  Answer(ref, std::move(error));
}

void Core::Handle(const RequestRef& ref, const BeginSnapshot& request, const std::vector<FolderSpace>& space,
                  bool last_try) {
  const auto attachment = AttachmentOf(ref.connection);
  if (!attachment) return Answer(ref, attachment.error());
  const JobKey& key = attachment->job;
  const base::Rank rank = attachment->rank;
  Job& job = state_.jobs.at(key);
  if (state_.stopping) return Answer(ref, Refused(Code::kUnavailable, "belayd is stopping"));
  if (request.step.value() < 0) return Answer(ref, Refused(Code::kInvalidArgument, "a step is not negative"));
  if (request.reason.size() > kTextBytesMax)
    return Answer(ref, Refused(Code::kLimitExceeded, "the reason is too long"));
  const auto slot = job.staging.find(rank);
  if (slot == job.staging.end() || !slot->second.buffers.front().allocated) {
    return Answer(ref, Refused(Code::kBusy, "the staging memory is still being made"));
  }
  StopReadingIn(state_.connections.at(ref.connection).pid);  // a trainer that saves has finished loading

  const CheckpointId id{job.generation, request.step};
  const auto under_way = job.snapshots.find(id);
  if (under_way != job.snapshots.end() && !under_way->second.failure) return JoinSnapshot(ref, key, id, rank);
  if (job.refusal && job.refusal->step == request.step && !job.refusal->told.contains(rank)) {
    job.refusal->told.insert(rank);
    return Answer(ref, job.refusal->error);
  }
  if (job.committed.contains(id)) {
    return Answer(ref, Refused(Code::kAlreadyExists, base::Str("step ", request.step, " is committed already")));
  }
  for (const CheckpointId other : UnderWay(job)) {
    const Snapshot& current = job.snapshots.at(other);
    const auto part = current.parts.find(rank);
    const bool sealed = part != current.parts.end() && part->second.phase != PartPhase::kFilling;
    if (current.failure || sealed || other > id) continue;
    FailSnapshot(
        key, other,  // it can never be complete now
        Refused(Code::kCancelled, base::Str("rank ", rank, " went on to step ", request.step, " without sealing it")));
  }
  const auto buffer = FreeBuffer(job);
  if (!buffer || job.snapshots.contains(id)) {
    if (!buffer) GrowBuffers(key);
    return RefuseBegin(ref, key, rank, request.step,
                       Refused(Code::kBusy, base::Str("the snapshot of step ", job.snapshots.begin()->first.step,
                                                      " is still being written")));
  }

  if (RestartDrains()) {  // the ranks put the save off, and find the new belayd
    return RefuseBegin(ref, key, rank, request.step, Refused(Code::kBusy, "belayd is about to restart"));
  }
  if (auto admitted = Admit(key, space); !admitted) {
    if (!last_try && (ApplyRetention(key) > 0 || Removing(job))) {
      job.held_begins.push_back(HeldBegin{ref, request});  // answered when the deletions are through
      return;
    }
    if (!job.snapshots.empty()) {  // there may be room once they are committed, and older ones gone
      return RefuseBegin(ref, key, rank, request.step, Refused(Code::kBusy, "not yet: " + admitted.error().Text()));
    }
    return RefuseBegin(ref, key, rank, request.step, admitted.error());
  }
  Snapshot& snapshot = job.snapshots[id];
  snapshot.id = id;
  snapshot.buffer = *buffer;
  snapshot.world_size = job.world_size;
  snapshot.reason = request.reason;
  job.refusal.reset();
  JoinSnapshot(ref, key, id, rank);
}

void Core::JoinSnapshot(const RequestRef& ref, const JobKey& key, CheckpointId id, base::Rank rank) {
  Job& job = state_.jobs.at(key);
  Snapshot& snapshot = job.snapshots.at(id);
  const auto [part, is_new] = snapshot.parts.try_emplace(rank);
  if (!is_new && part->second.phase != PartPhase::kFilling) {
    return Answer(ref, Refused(Code::kBusy, base::Str("step ", id.step, " is sealed already")));
  }
  if (is_new) {
    part->second.layout_fingerprint = state_.connections.at(ref.connection).attachment->layout_fingerprint;
    if (!HasBuffer(job.staging.at(rank), snapshot.buffer)) {  // another program, since the step began
      const Error error = Refused(Code::kBusy, base::Str("rank ", rank, " has no memory for step ", id.step, " yet"));
      FailSnapshot(key, id, error);
      return Answer(ref, error);
    }
    if (snapshot.parts.size() == static_cast<std::size_t>(snapshot.world_size)) GiveMemoryAway(key, snapshot);
  }
  Answer(ref, Begun{key, rank, snapshot.buffer, job.staging.at(rank).bytes});
}

// From here on the trainers write into their memory. Not before every rank has begun: where one cannot, the others
// abandon the step without having touched theirs, and what it holds may be the only copy of the newest state.
void Core::GiveMemoryAway(const JobKey& key, const Snapshot& snapshot) {
  Job& job = state_.jobs.at(key);
  for (const auto& [rank, part] : snapshot.parts) {
    if (part.phase != PartPhase::kFilling) continue;
    StagingBuffer& buffer = job.staging.at(rank).buffers.at(snapshot.buffer);
    if (job.memory && job.memory->buffer == snapshot.buffer && buffer.holds == job.memory->id) job.memory.reset();
    buffer.holds.reset();
    buffer.files.clear();
    buffer.records.reset();
  }
  const bool former_world_needed =
      job.memory && job.memory->world_size > job.world_size && InMemory(job, job.memory->id);
  if (!former_world_needed) FreeStagingOfFormerWorld(key);
}

std::vector<CheckpointId> Core::UnderWay(const Job& job) {
  std::vector<CheckpointId> ids;
  for (const auto& [id, snapshot] : job.snapshots) ids.push_back(id);
  return ids;
}

// Why nothing can be done with this step.
Error Core::NoSnapshot(const Job& job, base::Step step) {
  const auto failing = job.snapshots.find({job.generation, step});
  if (failing != job.snapshots.end() && failing->second.failure) return *failing->second.failure;
  if (job.refusal && job.refusal->step == step) return job.refusal->error;
  return Refused(Code::kCancelled, base::Str("no snapshot of step ", step, " is under way"));
}

bool Core::IsShardName(base::Rank rank, std::string_view name) {
  const std::string records_name = RecordsFileName(rank);
  return name.starts_with(records_name.substr(0, records_name.find('.') + 1)) &&  // "rank-00003."
         name.ends_with(".safetensors") && name.size() <= kFileNameBytesMax &&
         name.find_first_not_of(kFileNameCharacters) == std::string_view::npos;
}

base::Status Core::CheckSeal(const Job& job, base::Rank rank, const RankPart& part, const SealSnapshot& request) const {
  if (request.files.size() > kFilesMax) {
    return base::Fail(Code::kLimitExceeded, request.files.size(), " files in one snapshot; ", kFilesMax,
                      " are possible");
  }
  if (request.records.size() > kRecordsBytesMax) {
    return base::Fail(Code::kLimitExceeded, "records of ", request.records.size(), " bytes; ", kRecordsBytesMax,
                      " are possible");
  }
  if (request.metrics.size() > kMetricsMax) return base::Fail(Code::kLimitExceeded, "too many metrics");
  std::set<std::string> names;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  const StagingSlot& slot = job.staging.at(rank);
  const std::uint64_t room = slot.bytes;
  if (part.waves_running > 0) return base::Fail(Code::kInvalidArgument, "rank ", rank, " seals before its waves end");
  std::size_t streamed = 0;
  for (const SealedFile& file : request.files) {
    if (!IsShardName(rank, file.name) || !names.insert(file.name).second) {
      return base::Fail(Code::kInvalidArgument, "rank ", rank, " cannot have a file named '",
                        file.name.substr(0, kFileNameBytesMax), "'");
    }
    const auto wave = part.streamed.find(file.name);
    const bool in_waves = wave != part.streamed.end();
    if (in_waves && (wave->second.next != file.bytes || wave->second.bytes != file.bytes || file.origin)) {
      return base::Fail(Code::kIncomplete, file.name, " is sealed with ", file.bytes, " bytes, and its waves end at ",
                        wave->second.next, " of ", wave->second.bytes);
    }
    streamed += in_waves ? 1 : 0;
    const std::uint64_t lies_there = in_waves ? wave->second.begin : file.bytes;  // of a streamed one the header
    if (file.offset % kStagingAlignment != 0 || file.bytes < 8 || file.offset > room ||
        lies_there > room - file.offset) {
      return base::Fail(Code::kInvalidArgument, file.name, " lies at ", file.offset, " with ", file.bytes,
                        " bytes, outside the staging memory of ", room, " bytes or not on a 4096 boundary");
    }
    const CheckpointId id{job.generation, request.step};
    if (file.origin && CheckpointId{file.origin->generation, file.origin->step} >= id) {
      return base::Fail(Code::kInvalidArgument, file.name, " cannot be from ",
                        CheckpointDirectoryName(file.origin->step, file.origin->generation), ", which is not before ",
                        id);
    }
    ranges.emplace_back(file.offset, file.offset + lies_there);
  }
  if (streamed != part.streamed.size()) {
    return base::Fail(Code::kIncomplete, "rank ", rank, " seals ", streamed, " of the ", part.streamed.size(),
                      " files that it wrote in waves");
  }
  std::sort(ranges.begin(), ranges.end());
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first < ranges[i - 1].second) {
      return base::Fail(Code::kInvalidArgument, "files overlap in the staging memory");
    }
  }
  return {};
}

void Core::Handle(const RequestRef& ref, const SealSnapshot& request) {
  const auto attachment = AttachmentOf(ref.connection);
  if (!attachment) return Answer(ref, attachment.error());
  const JobKey& key = attachment->job;
  const base::Rank rank = attachment->rank;
  Job& job = state_.jobs.at(key);
  const CheckpointId id{job.generation, request.step};
  const auto found = job.snapshots.find(id);
  if (found == job.snapshots.end() || found->second.failure) {
    if (job.committed.contains(id)) return Answer(ref, Done{});  // a repeated seal
    return Answer(ref, NoSnapshot(job, request.step));
  }
  Snapshot& snapshot = found->second;
  const auto part = snapshot.parts.find(rank);
  if (part == snapshot.parts.end()) {
    return Answer(ref, Refused(Code::kInvalidArgument, base::Str("rank ", rank, " has not begun step ", request.step)));
  }
  if (part->second.phase != PartPhase::kFilling) return Answer(ref, Done{});  // a repeated seal
  if (auto good = CheckSeal(job, rank, part->second, request); !good) {
    FailSnapshot(key, id, good.error());
    return Answer(ref, good.error());
  }
  RankPart& mine = part->second;
  mine.phase = PartPhase::kSealed;
  mine.files = request.files;
  mine.records = std::make_shared<const std::string>(request.records);
  mine.metrics = request.metrics;
  mine.parent_step = request.parent_step;
  mine.bytes = request.records.size();
  for (SealedFile& file : mine.files) {
    mine.bytes += file.bytes;
    const auto wave = mine.streamed.find(file.name);
    if (wave != mine.streamed.end()) file.streamed_from = wave->second.begin;
  }
  StagingSlot& slot = job.staging.at(rank);
  if (!slot.IsWindow()) {
    StagingBuffer& buffer = slot.buffers.at(snapshot.buffer);
    buffer.holds = id;
    buffer.files = mine.files;
    buffer.records = mine.records;
  }
  ++snapshot.writes_running;
  Answer(ref, Done{});
  // Side by side the two would only share the disk, and the older would be committed later.
  mine.queued = std::ranges::any_of(job.snapshots, [&](const auto& other) {
    const auto theirs = other.second.parts.find(rank);
    return other.first != id && theirs != other.second.parts.end() && theirs->second.phase == PartPhase::kSealed;
  });
  if (!mine.queued) StartWriting(key, snapshot, rank);
}

void Core::StartWriting(const JobKey& key, Snapshot& snapshot, base::Rank rank) {
  RankPart& part = snapshot.parts.at(rank);
  part.queued = false;
  const bool inspect_only = snapshot.disk_failure || snapshot.failure;
  StartWrite write{key, snapshot.id, rank, snapshot.world_size, part.files, part.records, inspect_only, {}};
  write.buffer = snapshot.buffer;
  for (const auto& [other, committed] : state_.jobs.at(key).committed) {
    // The last one stays: they are sorted.
    if (committed.Sound()) write.previous = other;
  }
  Do(std::move(write));
}

void Core::Handle(const RequestRef& ref, const AbandonSnapshot& request) {
  const auto attachment = AttachmentOf(ref.connection);
  if (!attachment) return Answer(ref, attachment.error());
  Job& job = state_.jobs.at(attachment->job);
  const CheckpointId id{job.generation, request.step};
  const auto found = job.snapshots.find(id);
  if (found == job.snapshots.end() || found->second.failure) return Answer(ref, Done{});
  const auto part = found->second.parts.find(attachment->rank);
  if (part == found->second.parts.end() || part->second.phase != PartPhase::kFilling) {
    return Answer(ref, Refused(Code::kInvalidArgument,
                               base::Str("rank ", attachment->rank, " is not filling step ", request.step)));
  }
  FailSnapshot(attachment->job, id,
               Refused(Code::kCancelled,
                       base::Str("rank ", attachment->rank, " abandoned it: ", request.why.substr(0, kTextBytesMax))));
  Answer(ref, Done{});
}

SnapshotOutcome Core::OutcomeOf(const Job& job, CheckpointId id, base::Rank rank) const {
  SnapshotOutcome outcome;
  outcome.step = id.step;
  if (const auto found = job.snapshots.find(id); found != job.snapshots.end()) {
    const auto part = found->second.parts.find(rank);
    if (part == found->second.parts.end()) return outcome;
    outcome.bytes = part->second.bytes;
    outcome.write_seconds = part->second.write_seconds;
    outcome.state = part->second.phase == PartPhase::kFilling    ? SnapshotState::kFilling
                    : part->second.phase == PartPhase::kPrepared ? SnapshotState::kPrepared
                                                                 : SnapshotState::kSealed;
    return outcome;
  }
  if (const auto past = job.outcomes.find(id); past != job.outcomes.end()) {
    outcome.state = past->second.state;
    outcome.failure = past->second.failure;
    if (const auto mine = past->second.ranks.find(rank); mine != past->second.ranks.end()) {
      outcome.write_seconds = mine->second.write_seconds;
      outcome.bytes = mine->second.bytes;
    }
  } else if (job.committed.contains(id)) {
    outcome.state = SnapshotState::kCommitted;
  } else {
    outcome.state = SnapshotState::kFailed;
    outcome.failure = Refused(Code::kNotFound, base::Str("nothing is known of step ", id.step));
  }
  return outcome;
}

void Core::Handle(const RequestRef& ref, const WaitSnapshot& request) {
  const auto attachment = AttachmentOf(ref.connection);
  if (!attachment) return Answer(ref, attachment.error());
  const Job& job = state_.jobs.at(attachment->job);
  const CheckpointId id{attachment->generation, request.step};
  if (!job.snapshots.contains(id)) {
    if (!job.outcomes.contains(id) && !job.committed.contains(id)) {
      if (job.refusal && job.refusal->step == request.step) return Answer(ref, job.refusal->error);
      return Answer(ref, Refused(Code::kNotFound, base::Str("no snapshot of step ", request.step, " has begun")));
    }
    return Answer(ref, OutcomeOf(job, id, attachment->rank));
  }
  if (request.deadline_ms == 0) return Answer(ref, OutcomeOf(job, id, attachment->rank));
  state_.waiters.push_back(
      Waiter{ref, attachment->job, id, attachment->rank, now_ + std::chrono::milliseconds(request.deadline_ms)});
}

void Core::FailSnapshot(const JobKey& key, CheckpointId id, Error error) {
  Job& job = state_.jobs.at(key);
  Snapshot& snapshot = job.snapshots.at(id);
  if (!snapshot.failure) {
    if (snapshot.disk_failure) error = *snapshot.disk_failure;  // what came after it is not the cause
    job.refusal = Refusal{snapshot.id.step, error, {}};
    for (const auto& [rank, part] : snapshot.parts) job.refusal->told.insert(rank);
    snapshot.failure = std::move(error);
  }
  Advance(key, id);
}

void Core::FailUnsealed(const JobKey& key, const Error& error) {
  const Job& job = state_.jobs.at(key);
  for (const CheckpointId id : UnderWay(job)) {
    if (!job.snapshots.at(id).SealedByAll()) FailSnapshot(key, id, error);
  }
}

void Core::Handle(const WriteFinished& event) {
  Job& job = state_.jobs.at(event.job);
  BELAY_CHECK(job.snapshots.contains(event.id), "a write of ", event.id, " ended after its snapshot");
  Snapshot& snapshot = job.snapshots.at(event.id);
  RankPart& part = snapshot.parts.at(event.rank);
  BELAY_CHECK(part.phase == PartPhase::kSealed && snapshot.writes_running > 0, "rank ", event.rank, " wrote twice");
  --snapshot.writes_running;
  part.write_seconds = event.seconds;
  part.inspected = event.files;
  part.phase = event.error ? PartPhase::kFailed : PartPhase::kPrepared;
  for (auto& [id, next] : job.snapshots) {
    const auto waits = next.parts.find(event.rank);
    if (waits == next.parts.end() || !waits->second.queued) continue;
    StartWriting(event.job, next, event.rank);
    break;
  }
  // What was sealed is bad.
  if (event.error && event.files.empty()) return FailSnapshot(event.job, event.id, *event.error);
  if (event.error && !snapshot.disk_failure) snapshot.disk_failure = event.error;
  Advance(event.job, event.id);
}

// Moves the snapshot on as far as it can go without another event.
void Core::Advance(const JobKey& key, CheckpointId id) {
  Job& job = state_.jobs.at(key);
  Snapshot& snapshot = job.snapshots.at(id);
  if (snapshot.writes_running > 0 || snapshot.publishing || snapshot.discarding) return;
  if (!snapshot.failure) {
    if (!snapshot.SealedByAll()) return;
    if (snapshot.disk_failure) return FailSnapshot(key, id, *snapshot.disk_failure);
    return AskForManifest(key, id, false);
  }
  const bool whole_in_memory =
      snapshot.SealedByAll() && std::all_of(snapshot.parts.begin(), snapshot.parts.end(), [&](const auto& part) {
        const auto slot = job.staging.find(part.first);
        return !part.second.inspected.empty() && slot != job.staging.end() && !slot->second.IsWindow();
      });
  if (whole_in_memory && !snapshot.memory_tried) return AskForManifest(key, id, true);
  snapshot.discarding = true;
  Do(DiscardFiles{key, snapshot.id},
     base::Str("snapshot ", snapshot.id, " of job ", key, " failed: ", snapshot.failure->Text()));
}

void Core::AskForManifest(const JobKey& key, CheckpointId id, bool memory_only) {
  Snapshot& snapshot = state_.jobs.at(key).snapshots.at(id);
  snapshot.publishing = true;
  snapshot.memory_tried = true;
  PublishManifest publish{key, snapshot.id, snapshot.world_size, snapshot.reason, {}, memory_only};
  for (const auto& [rank, part] : snapshot.parts) {
    BELAY_CHECK(memory_only || part.phase == PartPhase::kPrepared, "rank ", rank, " is not prepared");
    publish.ranks.push_back(
        RankContribution{rank, part.layout_fingerprint, part.metrics, part.parent_step, part.inspected});
  }
  Do(std::move(publish));
}

void Core::Handle(const ManifestFinished& event) {
  Job& job = state_.jobs.at(event.job);
  BELAY_CHECK(job.snapshots.contains(event.id) && job.snapshots.at(event.id).publishing, "a manifest nobody asked for");
  Snapshot& snapshot = job.snapshots.at(event.id);
  snapshot.publishing = false;
  // A later one may have come first.
  if (!event.manifest.empty() && !(job.memory && event.id < job.memory->id && InMemory(job, job.memory->id))) {
    job.memory = MemoryPoint{snapshot.id, snapshot.world_size, event.manifest, {}, snapshot.buffer};
  }
  if (snapshot.failure) return Advance(event.job, event.id);
  if (event.error) return FailSnapshot(event.job, event.id, *event.error);
  job.committed[snapshot.id] = Committed{event.info};
  EndSnapshot(event.job, event.id, SnapshotState::kCommitted);
}

void Core::Handle(const DiscardFinished& event) {
  Job& job = state_.jobs.at(event.job);
  BELAY_CHECK(job.snapshots.contains(event.id) && job.snapshots.at(event.id).discarding, "a discard nobody asked for");
  EndSnapshot(event.job, event.id, SnapshotState::kFailed);
}

void Core::EndSnapshot(const JobKey& key, CheckpointId id, SnapshotState state) {
  Job& job = state_.jobs.at(key);
  const Snapshot snapshot = std::move(job.snapshots.extract(id).mapped());
  Outcome& outcome = job.outcomes[snapshot.id];
  outcome = Outcome{state, snapshot.failure, {}};
  for (const auto& [rank, part] : snapshot.parts) outcome.ranks[rank] = {part.write_seconds, part.bytes};
  while (job.outcomes.size() > kOutcomesKept) job.outcomes.erase(job.outcomes.begin());
  job.last_used = now_;

  std::vector<Waiter> answered;
  std::erase_if(state_.waiters, [&](const Waiter& waiter) {
    if (waiter.job != key || waiter.id != snapshot.id) return false;
    answered.push_back(waiter);
    return true;
  });
  for (const Waiter& waiter : answered) Answer(waiter.ref, OutcomeOf(job, waiter.id, waiter.rank));
  if (state == SnapshotState::kCommitted) ApplyRetention(key);
  ContinueBeginning(key);  // after the deletions, if there are any
  FreeStagingIfIdle(key);
}

}  // namespace belay::checkpoint::commit
