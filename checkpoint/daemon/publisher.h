// The daemon's one hand on everything durable but the shards: generations, manifests, deletions, marks, the
// index.
//
// All methods block and run on one thread, in the order asked, so that the index has one writer. An index that cannot
// be written is no reason to fail a commit, because the files are the truth: it is logged, and what it missed is found
// from the files at the next start or reindex.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "checkpoint/commit/actions.h"
#include "checkpoint/commit/events.h"
#include "checkpoint/index/folders.h"
#include "runtime/base/clock.h"
#include "runtime/base/file_system.h"
#include "runtime/base/index.h"

namespace belay::checkpoint {

class Publisher {
 public:
  Publisher(base::FileSystem& files, base::Clock& clock, index::Folders folders, base::Index& index,
            std::uint32_t default_owner)
      : files_(files), clock_(clock), folders_(std::move(folders)), index_(index), default_owner_(default_owner) {}

  commit::GenerationPersisted Persist(const commit::PersistGeneration& order);
  void RecordPrepared(const commit::WriteFinished& written);
  commit::ManifestFinished Publish(const commit::PublishManifest& order);
  commit::DiscardFinished Discard(const commit::DiscardFiles& order);
  commit::RemoveFinished Delete(const commit::DeleteCheckpoint& order);
  commit::PinFinished Pin(const commit::PersistPin& order);
  commit::QuarantineFinished Quarantine(const commit::PersistQuarantine& order);
  commit::TrustFinished MarkTrust(const commit::PersistTrust& order);
  // How far the scrubber is; losing it costs reading again.
  void RecordScrub(const std::string& progress);
  // What was measured of a device; losing it costs measuring again.
  void RecordDevice(const std::string& key, const std::string& record);
  commit::ReindexFinished Rebuild(const commit::RebuildIndex& order);

 private:
  base::Status PersistOrFail(const commit::PersistGeneration& order, commit::GenerationPersisted& event);
  base::Result<base::Generation> NewestGeneration(const commit::JobKey& job);
  base::Status LookAgain(const commit::PersistGeneration& order, base::Generation newest,
                         commit::GenerationPersisted& event);
  base::Status StoreManifest(const std::string& directory, const std::string& text);
  base::Status DeleteOrFail(const std::string& directory, bool* marked = nullptr);
  base::Status PinOrFail(const commit::PersistPin& order);
  base::Status QuarantineOrFail(const commit::PersistQuarantine& order);
  base::Status MarkTrustOrFail(const commit::PersistTrust& order);
  base::Status RemoveMark(const std::string& directory, std::string_view name);
  void ChangeRecord(const commit::JobKey& job, const commit::CheckpointId& id,
                    const std::function<void(commit::CommittedInfo&)>& change);
  void SweepJob(const commit::JobKey& job);
  base::Status WriteIndex(const base::IndexBatch& batch);
  void WriteIndexOrLog(const base::IndexBatch& batch);

  base::FileSystem& files_;
  base::Clock& clock_;
  const index::Folders folders_;
  base::Index& index_;
  const std::uint32_t default_owner_;
};

}  // namespace belay::checkpoint
