#include "checkpoint/daemon/publisher.h"

#include <algorithm>
#include <span>
#include <utility>

#include "checkpoint/commit/manifest_assembly.h"
#include "checkpoint/index/other_folders.h"
#include "checkpoint/index/schema.h"
#include "runtime/base/fault_points.h"
#include "runtime/base/log.h"

namespace belay::checkpoint {

using base::Code;

namespace {

// Unlike base::Exists an error stays an error: what cannot be looked at now must not count as gone.
base::Result<bool> IsThere(base::FileSystem& files, const std::string& path) {
  const auto info = files.Stat(path);
  if (info) return true;
  if (info.error().code == Code::kNotFound) return false;
  return tl::unexpected(info.error());
}

// A manifest is answered together with the places of the files that were asked for, all in one frame.
constexpr std::size_t kFilesAnswerBytesMax = 64U << 10;
static_assert(base::kDescriptorsMax * (commit::kFileNameBytesMax + 64) <= kFilesAnswerBytesMax);

// What readers will make of the manifest, digest included. One that nobody could read must not become a checkpoint.
base::Result<Manifest> ReadBack(const std::string& text) {
  if (text.size() > kManifestBytesMax - kFilesAnswerBytesMax) {
    return base::Fail(Code::kLimitExceeded, "the checkpoint's manifest would have ", text.size(), " bytes, and ",
                      kManifestBytesMax - kFilesAnswerBytesMax, " are possible: train with fewer ranks or files");
  }
  return DecodeManifest(text);
}

}  // namespace

base::Status Publisher::WriteIndex(const base::IndexBatch& batch) {
  BELAY_TRY(base::FaultPoint("index.write"));
  return index_.Write(batch);
}

void Publisher::WriteIndexOrLog(const base::IndexBatch& batch) {
  if (auto written = WriteIndex(batch); !written) {
    base::LogError("index_not_written", {{"why", written.error().Text()}});
  }
}

// --- generations ---

commit::GenerationPersisted Publisher::Persist(const commit::PersistGeneration& order) {
  commit::GenerationPersisted event{order.job, order.generation, std::nullopt};
  if (auto persisted = PersistOrFail(order, event); !persisted) event.error = persisted.error();
  return event;
}

// The last one that the job's folder speaks of; 0 if none. What cannot be looked at is not taken for nothing.
base::Result<base::Generation> Publisher::NewestGeneration(const commit::JobKey& job) {
  base::Generation newest;
  const auto text = base::ReadWholeFile(files_, folders_.GenerationFile(job), 4096);
  if (!text && text.error().code != Code::kNotFound) return tl::unexpected(text.error());
  if (const auto record = text ? index::DecodeJobRecord(*text) : base::Result<index::JobRecord>()) {
    newest = record->generation;  // a damaged one is made up for by the folders' names
  }
  const auto names = files_.List(folders_.Job(job));
  if (!names && names.error().code != Code::kNotFound) return tl::unexpected(names.error());
  for (const std::string& name : names.value_or(std::vector<std::string>())) {
    if (const auto parsed = ParseCheckpointDirectoryName(name)) newest = std::max(newest, parsed->generation);
  }
  return newest;
}

// The daemon could not see this job when it started (a lost index, and an error of the disk at the same time). Its
// generations must not begin anew, nor its training.
base::Status Publisher::LookAgain(const commit::PersistGeneration& order, base::Generation newest,
                                  commit::GenerationPersisted& event) {
  BELAY_ASSIGN(auto found, index::ScanFolders(files_, folders_, nullptr, default_owner_));
  const auto job = found.catalogue.find(order.job);
  if (job == found.catalogue.end() || !found.unseen.empty()) {
    return base::Fail(Code::kIo, "the files of job ", order.job, " cannot be looked at: ",
                      found.problems.empty() ? std::string("they went meanwhile") : found.problems.front());
  }
  if (default_owner_ == 0 && job->second.owner_uid != order.owner_uid) {
    return base::Fail(Code::kPermissionDenied, "job ", order.job, " belongs to user ", job->second.owner_uid);
  }
  base::LogWarning("job_found", {{"job", order.job}, {"generation", job->second.generation.value()}});
  // The scan gets by without a generation file that it cannot read; but that file has been read a moment ago.
  event.generation = base::Generation(std::max(newest, job->second.generation).value() + 1);
  event.found = std::move(job->second);
  return {};
}

base::Status Publisher::PersistOrFail(const commit::PersistGeneration& order, commit::GenerationPersisted& event) {
  BELAY_ASSIGN(const base::Generation newest, NewestGeneration(order.job));
  if (newest >= order.generation) BELAY_TRY(LookAgain(order, newest, event));
  const index::JobRecord record{event.generation, order.owner_uid};
  base::Status written = index::WriteGenerationFile(files_, folders_, order.job, record);
  if (!written && written.error().code == Code::kNoSpace) {
    // A full disk must not keep a run from going on, least of all one whose newest state is in memory only.
    base::IgnoreError(files_.Remove(folders_.IndexReserve()), "there may be none left");
    written = index::WriteGenerationFile(files_, folders_, order.job, record);
  }
  BELAY_TRY(written);
  BELAY_TRY(base::FaultPoint("begin_run.after_generation"));
  SweepJob(order.job);
  base::IndexBatch batch;
  batch.Put(index::JobRecordKey(order.job), index::EncodeJobRecord(record));
  WriteIndexOrLog(batch);  // the file is what counts
  return {};
}

// No snapshot of the job is under way, so a folder without a manifest has no owner any more.
void Publisher::SweepJob(const commit::JobKey& job) {
  const std::string folder = folders_.Job(job);
  const auto names = files_.List(folder);
  if (!names) return base::LogWarning("sweep_failed", {{"folder", folder}, {"why", names.error().Text()}});
  for (const std::string& name : *names) {
    if (!ParseCheckpointDirectoryName(name)) continue;
    const std::string directory = folder + "/" + name;
    const auto committed = IsThere(files_, directory + "/" + std::string(kManifestName));
    if (committed && *committed) continue;
    const base::Status removed = committed ? index::RemoveLeftover(files_, folders_, directory)
                                           : base::Status(tl::unexpected(committed.error()));
    if (removed)
      base::LogInfo("leftover_removed", {{"folder", directory}});
    else
      base::LogWarning("leftover_stays", {{"folder", directory}, {"why", removed.error().Text()}});
  }
}

// --- snapshots ---

void Publisher::RecordPrepared(const commit::WriteFinished& written) {
  base::IndexBatch batch;
  batch.Put(index::PreparedRecordKey(written.job, written.id, written.rank), "{}");
  WriteIndexOrLog(batch);
}

commit::ManifestFinished Publisher::Publish(const commit::PublishManifest& order) {
  commit::ManifestFinished event{order.job, order.id, std::nullopt, {}, {}};
  auto manifest = commit::AssembleManifest(order, base::Rfc3339(clock_.WallNow()));
  if (!manifest) {
    event.error = manifest.error();
    return event;
  }
  event.manifest = EncodeManifest(*manifest);
  if (auto complete = ReadBack(event.manifest); complete) {
    event.info = index::InfoOf(*complete, false);
  } else {
    event.error = complete.error();
    event.manifest.clear();
    return event;
  }
  if (order.memory_only) return event;
  if (auto stored = StoreManifest(folders_.Checkpoint(order.job, order.id), event.manifest); !stored) {
    event.error = stored.error();
    return event;
  }
  base::IndexBatch batch;
  batch.Put(index::CheckpointRecordKey(order.job, order.id), index::EncodeCheckpointRecord(event.info));
  for (const commit::RankContribution& rank : order.ranks) {
    batch.Delete(index::PreparedRecordKey(order.job, order.id, rank.rank));
  }
  const base::Status before_index = base::FaultPoint("commit.before_index");
  if (before_index)
    WriteIndexOrLog(batch);
  else
    base::LogError("index_not_written", {{"why", before_index.error().Text()}});
  return event;
}

// The durable recipe, spelled out for its fault points. Once the rename has happened the checkpoint may survive a
// crash; a failure after it takes the manifest away again, so that nobody is told FAILED of what a restart would find
// committed.
base::Status Publisher::StoreManifest(const std::string& directory, const std::string& text) {
  BELAY_TRY(base::FaultPoint("commit.before_manifest"));
  const std::string path = directory + "/" + std::string(kManifestName);
  const std::string temporary = path + ".tmp";
  BELAY_ASSIGN(auto file, files_.Open(temporary, {.mode = base::OpenOptions::Mode::kCreateOrTruncate}));
  BELAY_TRY(file->WriteAt(0, std::as_bytes(std::span(text))));
  BELAY_TRY(file->Sync());
  BELAY_TRY(file->Close());
  BELAY_TRY(base::FaultPoint("commit.after_manifest_write"));
  BELAY_TRY(files_.Rename(temporary, path));
  base::Status synced = base::FaultPoint("commit.after_manifest_rename");
  if (synced) synced = files_.SyncDirectory(directory);
  if (!synced) base::IgnoreError(files_.Remove(path), "DiscardFiles tries again");
  return synced;
}

commit::DiscardFinished Publisher::Discard(const commit::DiscardFiles& order) {
  const std::string directory = folders_.Checkpoint(order.job, order.id);
  if (auto removed = DeleteOrFail(directory); !removed) {
    base::LogWarning("leftover_stays", {{"folder", directory}, {"why", removed.error().Text()}});
  }
  base::IndexBatch batch;
  if (const auto prepared = index_.Scan(index::PreparedPrefix(order.job, order.id))) {
    for (const auto& [key, value] : *prepared) batch.Delete(key);
  }
  if (!batch.empty()) WriteIndexOrLog(batch);
  return {order.job, order.id};
}

// --- deletions ---

commit::RemoveFinished Publisher::Delete(const commit::DeleteCheckpoint& order) {
  commit::RemoveFinished event{order.job, order.id, std::nullopt, {}};
  const std::string directory = folders_.Checkpoint(order.job, order.id);
  bool marked = false;
  base::Status removed = base::FaultPoint("retention.before_mark");
  if (removed) removed = DeleteOrFail(directory, &marked);
  // Without its manifest it is no checkpoint, whatever is left of it: the next sweep takes the rest. Also where the
  // disk does not let anybody look any more.
  const auto manifest = IsThere(files_, directory + "/" + std::string(kManifestName));
  const bool is_gone = marked || (manifest && !*manifest);
  if (removed && !manifest) removed = tl::unexpected(manifest.error());
  if (!removed) {
    base::LogWarning("removal_failed", {{"folder", directory}, {"why", removed.error().Text()}});
    if (!is_gone) event.error = removed.error();
  }
  if (is_gone) {
    base::IndexBatch batch;
    batch.Delete(index::CheckpointRecordKey(order.job, order.id));
    WriteIndexOrLog(batch);
  }
  event.space = index::SpaceOf(files_, folders_);
  return event;
}

// First the name that makes it a checkpoint, durably; then the rest in any order.
base::Status Publisher::DeleteOrFail(const std::string& directory, bool* marked) {
  const std::string manifest = directory + "/" + std::string(kManifestName);
  BELAY_ASSIGN(const bool committed, IsThere(files_, manifest));
  if (committed) {
    // Not half of it: while its other half is away, it stays what it is.
    BELAY_TRY(index::CheckDeletable(files_, folders_, directory));
    BELAY_TRY(files_.Rename(manifest, directory + "/" + std::string(index::kDeletedManifestName)));
    if (marked != nullptr) *marked = true;
    BELAY_TRY(files_.SyncDirectory(directory));
    BELAY_TRY(base::FaultPoint("retention.after_mark"));
  }
  return index::RemoveLeftover(files_, folders_, directory);
}

// --- marks ---

commit::PinFinished Publisher::Pin(const commit::PersistPin& order) {
  commit::PinFinished event{order.ref, order.job, order.id, order.pinned, std::nullopt};
  if (auto pinned = PinOrFail(order); !pinned) event.error = pinned.error();
  return event;
}

base::Status Publisher::PinOrFail(const commit::PersistPin& order) {
  const std::string directory = folders_.Checkpoint(order.job, order.id);
  if (order.pinned) {
    // Its name is all that it says, so there is no half of it, and no temporary name that a crash could leave.
    BELAY_ASSIGN(auto file, files_.Open(directory + "/" + std::string(kPinnedName),
                                        {.mode = base::OpenOptions::Mode::kCreateOrTruncate}));
    BELAY_TRY(file->Close());
    BELAY_TRY(files_.SyncDirectory(directory));
  } else {
    BELAY_TRY(RemoveMark(directory, kPinnedName));
  }
  ChangeRecord(order.job, order.id, [&](commit::CommittedInfo& info) { info.pinned = order.pinned; });
  return {};
}

commit::QuarantineFinished Publisher::Quarantine(const commit::PersistQuarantine& order) {
  commit::QuarantineFinished event{order.ref, order.job, order.id, order.reason, std::nullopt};
  if (auto marked = QuarantineOrFail(order); !marked) event.error = marked.error();
  return event;
}

base::Status Publisher::QuarantineOrFail(const commit::PersistQuarantine& order) {
  const std::string directory = folders_.Checkpoint(order.job, order.id);
  if (order.reason.empty()) {
    BELAY_TRY(RemoveMark(directory, kQuarantinedName));
  } else {
    BELAY_TRY(base::FaultPoint("quarantine.before_mark"));
    const std::string mark = EncodeQuarantine({order.reason, base::Rfc3339(clock_.WallNow())});
    BELAY_TRY(base::WriteFileDurably(files_, directory + "/" + std::string(kQuarantinedName), mark));
  }
  ChangeRecord(order.job, order.id, [&](commit::CommittedInfo& info) { info.quarantine = order.reason; });
  return {};
}

commit::TrustFinished Publisher::MarkTrust(const commit::PersistTrust& order) {
  commit::TrustFinished event{order.ref, order.job, order.id, order.trust, std::nullopt};
  if (auto marked = MarkTrustOrFail(order); !marked) event.error = marked.error();
  return event;
}

base::Status Publisher::MarkTrustOrFail(const commit::PersistTrust& order) {
  const std::string directory = folders_.Checkpoint(order.job, order.id);
  if (order.trust == Trust()) {
    BELAY_TRY(RemoveMark(directory, kTrustName));
  } else {
    BELAY_TRY(base::FaultPoint("trust.before_mark"));
    const std::string mark = EncodeTrust(order.trust, base::Rfc3339(clock_.WallNow()));
    BELAY_TRY(base::WriteFileDurably(files_, directory + "/" + std::string(kTrustName), mark));
  }
  ChangeRecord(order.job, order.id, [&](commit::CommittedInfo& info) { info.trust = order.trust; });
  return {};
}

base::Status Publisher::RemoveMark(const std::string& directory, std::string_view name) {
  const std::string mark = directory + "/" + std::string(name);
  BELAY_ASSIGN(const bool marked, IsThere(files_, mark));
  if (!marked) return {};
  BELAY_TRY(files_.Remove(mark));
  return files_.SyncDirectory(directory);
}

// The mark is what counts: an index that is behind learns of it at the next start.
void Publisher::ChangeRecord(const commit::JobKey& job, const commit::CheckpointId& id,
                             const std::function<void(commit::CommittedInfo&)>& change) {
  const std::string key = index::CheckpointRecordKey(job, id);
  const auto value = index_.Get(key);
  if (!value || !*value) return;
  auto info = index::DecodeCheckpointRecord(**value);
  if (!info) return;
  change(*info);
  base::IndexBatch batch;
  batch.Put(key, index::EncodeCheckpointRecord(*info));
  WriteIndexOrLog(batch);
}

void Publisher::RecordScrub(const std::string& progress) {
  base::IndexBatch batch;
  batch.Put(std::string(index::kScrubKey), progress);
  WriteIndexOrLog(batch);
}

void Publisher::RecordDevice(const std::string& key, const std::string& record) {
  base::IndexBatch batch;
  batch.Put(key, record);
  WriteIndexOrLog(batch);
}

// --- the whole index ---

commit::ReindexFinished Publisher::Rebuild(const commit::RebuildIndex& order) {
  commit::ReindexFinished event{order.ref, std::nullopt, {}, {}};
  auto found = index::ScanFolders(files_, folders_, nullptr, default_owner_);
  if (!found) {
    event.error = found.error();
    return event;
  }
  if (const auto known = index::ReadCatalogue(index_)) {  // a damaged .generation file must not take one back
    index::KeepUnseen(folders_, *known, *found);
    for (const auto& [key, job] : *known) {
      commit::CataloguedJob& same = found->catalogue[key];
      if (same.checkpoints.empty() && same.generation.value() == 0) same.owner_uid = job.owner_uid;
      same.generation = std::max(same.generation, job.generation);
    }
  }
  auto batch = index::ReplaceCatalogue(index_, found->catalogue);
  if (!batch) {
    event.error = batch.error();
    return event;
  }
  if (auto written = WriteIndex(*batch); !written) {
    event.error = written.error();
    return event;
  }
  event.catalogue = std::move(found->catalogue);
  event.problems = std::move(found->problems);
  return event;
}

}  // namespace belay::checkpoint
