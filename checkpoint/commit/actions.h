// What the core wants done. The daemon carries actions out in order and reports back with the event named at each.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "checkpoint/commit/types.h"
#include "runtime/base/transport.h"

namespace belay::checkpoint::commit {

// --- replies ---
struct Done {};
struct RunGrant {
  base::Generation generation;
  std::optional<base::Step> newest_step;
  std::uint32_t suspects = 0;  // checkpoints that are there but not offered, because resumes from them failed
};
struct Attached {  // the daemon adds the staging memory's descriptor
  JobKey job;
  base::Rank rank;
  std::uint64_t staging_bytes = 0;
  bool reused = false;
};
struct Begun {  // the daemon adds the descriptor of a buffer beyond the first
  JobKey job;
  base::Rank rank;
  std::size_t buffer = 0;  // of the rank's staging memory, to copy into
  std::uint64_t bytes = 0;
};
struct SnapshotOutcome {
  base::Step step;
  SnapshotState state = SnapshotState::kFilling;
  std::optional<base::Error> failure;
  double write_seconds = 0;
  std::uint64_t bytes = 0;
};
struct RestorePoint {
  CheckpointId id;
  bool in_memory = false;
  std::int32_t world_size = 1;
  bool committed = true;  // else whole in memory only
  bool suspect = false;   // not to be resumed from, unless somebody asks for it
};
struct CheckpointInfo {
  JobKey job;
  CheckpointId id;
  CommittedInfo info;
  bool in_memory = false;
};
struct Judged {
  Trust trust;  // what is believed of the checkpoint now
};
struct RunInfo {
  JobKey job;
  base::Generation generation;
  std::int32_t world_size = 0;
  std::int32_t attached = 0;
  std::int32_t launcher_pid = 0;
};
struct StatusReport {  // the daemon adds what only it knows (pid, paths, disk)
  std::uint64_t staging_bytes = 0;
  std::uint32_t connections = 0;
  std::uint64_t checkpoints = 0;
  std::uint64_t checkpoint_bytes = 0;
  std::vector<RunInfo> runs;
};
struct ReindexReport {
  std::uint64_t checkpoints = 0;
  std::vector<std::string> problems;
};
using ReplyBody = std::variant<base::Error, Done, RunGrant, Attached, Begun, SnapshotOutcome, std::vector<RestorePoint>,
                               std::vector<CheckpointInfo>, Judged, StatusReport, ReindexReport>;

// --- actions ---
struct Reply {
  RequestRef ref;
  ReplyBody body;
};
struct AllocateStaging {  // -> StagingAllocated: of the first buffer at once, of another when its pages are there
  RequestRef ref;
  JobKey job;
  base::Rank rank;
  std::uint64_t bytes = 0;
  std::optional<std::int32_t> numa_node;  // best there
  std::size_t buffer = 0;
};
struct FreeStaging {
  JobKey job;
  base::Rank rank;
  std::size_t from_buffer = 0;  // this one and those after it
};
struct PersistGeneration {  // and sweep the job's folder of uncommitted checkpoints -> GenerationPersisted
  JobKey job;
  base::Generation generation;
  std::uint32_t owner_uid = 0;
};
struct StartWrite {  // -> WriteFinished
  JobKey job;
  CheckpointId id;
  base::Rank rank;
  std::int32_t world_size = 1;
  std::vector<SealedFile> files;
  std::shared_ptr<const std::string> records;
  bool inspect_only = false;  // read the headers, write nothing: the disk has failed another rank already
  // The newest committed checkpoint: files with an origin may be there already, to be linked.
  std::optional<CheckpointId> previous;
  std::size_t buffer = 0;
};
struct WriteWavePiece {  // -> WaveFinished
  RequestRef ref;
  JobKey job;
  CheckpointId id;
  base::Rank rank;
  WavePiece piece;
  bool first = false;  // of its file
};
struct RankContribution {
  base::Rank rank;
  std::string layout_fingerprint;
  std::map<std::string, double> metrics;
  std::optional<base::Step> parent_step;
  std::vector<InspectedFile> files;
};
struct PublishManifest {  // -> ManifestFinished
  JobKey job;
  CheckpointId id;
  std::int32_t world_size = 1;
  std::string reason;
  std::vector<RankContribution> ranks;
  bool memory_only = false;  // only assemble it: the files could not be written, but the memory can be restored from
};
struct DiscardFiles {  // -> DiscardFinished
  JobKey job;
  CheckpointId id;
};
struct DeleteCheckpoint {  // -> RemoveFinished
  JobKey job;
  CheckpointId id;
};
struct PersistPin {  // -> PinFinished
  RequestRef ref;
  JobKey job;
  CheckpointId id;
  bool pinned = false;
};
struct PersistQuarantine {  // -> QuarantineFinished
  RequestRef ref;           // of connection 0: nobody asked
  JobKey job;
  CheckpointId id;
  std::string reason;  // empty: lift it
};
struct PersistTrust {  // -> TrustFinished
  RequestRef ref;
  JobKey job;
  CheckpointId id;
  Trust trust;
};
struct MemoryFile {
  std::string name;
  base::Rank rank;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::shared_ptr<const std::string> records;  // set: the content itself, which lies outside the staging memory
  std::size_t buffer = 0;
};
struct RepairFile {  // write a damaged file anew from memory that is still whole -> RepairFinished
  JobKey job;
  CheckpointId id;
  MemoryFile file;
  std::string manifest;  // what the file must match
  std::string damage;
};
struct OpenFromMemory {  // the daemon replies with descriptors
  RequestRef ref;
  JobKey job;
  CheckpointId id;
  std::string manifest;
  std::vector<MemoryFile> files;
};
struct OpenFromDisk {  // the daemon replies with descriptors
  RequestRef ref;
  JobKey job;
  CheckpointId id;
  std::vector<std::string> files;
};
struct RebuildIndex {  // -> ReindexFinished
  RequestRef ref;
};
struct CheckSuccessor {  // can the program that is installed now take up what this one holds? -> SuccessorChecked
  RequestRef ref;
};
struct Note {};          // nothing but the reason, for the log
struct Exit {            // leave with status 0: everything is drained
  bool forced = false;   // or it is not, and nothing under way is to be waited for
  bool restart = false;  // hand over instead: core.HandOver()
};

struct Action {
  std::variant<Reply, AllocateStaging, FreeStaging, PersistGeneration, StartWrite, WriteWavePiece, PublishManifest,
               DiscardFiles, DeleteCheckpoint, PersistPin, PersistQuarantine, PersistTrust, RepairFile, OpenFromMemory,
               OpenFromDisk, RebuildIndex, CheckSuccessor, Note, Exit>
      what;
  std::string reason;  // one line for the log; empty: not worth one
};

}  // namespace belay::checkpoint::commit
