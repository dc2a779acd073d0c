// What can happen to the core: a client's request, a connection's beginning or end, the end of work that an action
// began.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "checkpoint/commit/admission.h"
#include "checkpoint/commit/trust.h"
#include "checkpoint/commit/types.h"

namespace belay::checkpoint::commit {

// --- requests; meanings in checkpoint/protocol/PROTOCOL.md ---
struct BeginRun {
  JobKey job;
  std::int32_t world_size = 1;
  std::string host;
  std::int32_t pid = 0;
  base::Generation continues;
};
struct HoldRun {
  JobKey job;
  base::Generation generation;
  std::int32_t world_size = 1;
  std::string host;
  std::int32_t pid = 0;
};
struct EndRun {
  JobKey job;
  base::Generation generation;
  std::string outcome;
};
struct Attach {
  JobKey job;
  base::Generation generation;
  base::Rank rank;
  std::int32_t world_size = 1;
  std::uint64_t staging_bytes = 0;
  std::string layout_fingerprint;
  Retention retention;
  std::uint64_t window_bytes_min = 0;     // so much will do where there is no room for staging_bytes; 0: it will not
  std::optional<std::int32_t> numa_node;  // where its staging memory had best lie
  bool takes_more_buffers = false;        // with the answer to BeginSnapshot
};
struct BeginSnapshot {
  base::Step step;
  std::string reason;
};
struct WriteWave {
  base::Step step;
  WavePiece piece;
};
struct SealSnapshot {
  base::Step step;
  std::vector<SealedFile> files;
  std::string records;
  std::map<std::string, double> metrics;
  std::optional<base::Step> parent_step;
};
struct AbandonSnapshot {
  base::Step step;
  std::string why;
};
struct WaitSnapshot {
  base::Step step;
  std::uint32_t deadline_ms = 0;
};
struct RestorePoints {
  JobKey job;
};
struct OpenCheckpoint {
  JobKey job;
  base::Step step;
  base::Generation generation;  // 0: the newest of that step
  bool from_memory = false;
  std::vector<std::string> files;
};
struct ListCheckpoints {
  std::string project, job;  // empty: all
};
struct PinCheckpoint {
  JobKey job;
  base::Step step;
  base::Generation generation;
  bool pinned = false;
};
struct RemoveCheckpoint {
  JobKey job;
  base::Step step;
  base::Generation generation;
  bool force = false;
};
struct QuarantineCheckpoint {
  JobKey job;
  base::Step step;
  base::Generation generation;
  std::string reason;  // empty: it is good again
};
struct JudgeCheckpoint {
  JobKey job;
  base::Step step;
  base::Generation generation;
  Judgement judgement = Judgement::kFailed;
  base::Generation by;  // the run that says so; its checkpoint is of this generation or an older one
  std::string reason;
};
struct DaemonStatus {};
struct DaemonStop {
  bool force = false;
};
struct DaemonRestart {};
struct Reindex {};

using Request =
    std::variant<BeginRun, HoldRun, EndRun, Attach, BeginSnapshot, WriteWave, SealSnapshot, AbandonSnapshot,
                 WaitSnapshot, RestorePoints, OpenCheckpoint, ListCheckpoints, PinCheckpoint, RemoveCheckpoint,
                 QuarantineCheckpoint, JudgeCheckpoint, DaemonStatus, DaemonStop, DaemonRestart, Reindex>;

// --- events ---
struct ConnectionOpened {
  ConnectionId connection = 0;
  std::uint32_t uid = 0;
  std::int32_t pid = 0;
};
struct ConnectionClosed {
  ConnectionId connection = 0;
};
struct RequestArrived {
  RequestRef ref;
  Request request;
  std::vector<FolderSpace> space = {};  // now, home first; used by BeginSnapshot
};
struct StagingAllocated {
  RequestRef ref;
  JobKey job;
  base::Rank rank;
  std::optional<base::Error> error;
  std::size_t buffer = 0;
};
struct GenerationPersisted {
  JobKey job;
  base::Generation generation;  // at least the one that was asked for
  std::optional<base::Error> error;
  // The job's folder knew of later generations than the core: what it holds.
  std::optional<CataloguedJob> found;
};
struct WriteFinished {
  JobKey job;
  CheckpointId id;
  base::Rank rank;
  std::optional<base::Error> error;
  std::vector<InspectedFile> files;  // filled when the headers were good, even if the disk then failed
  double seconds = 0;
};
struct WaveFinished {
  RequestRef ref;
  JobKey job;
  CheckpointId id;
  base::Rank rank;
  std::optional<base::Error> error;
};
struct ManifestFinished {
  JobKey job;
  CheckpointId id;
  std::optional<base::Error> error;
  std::string manifest;  // its JSON, if it could be assembled, even if it could not be stored
  CommittedInfo info;
};
struct DiscardFinished {  // the files of a failed snapshot are gone (or could not be removed: logged, swept later)
  JobKey job;
  CheckpointId id;
};
struct RemoveFinished {
  JobKey job;
  CheckpointId id;
  std::optional<base::Error> error;
  std::vector<FolderSpace> space = {};  // now, home first
};
struct PinFinished {
  RequestRef ref;
  JobKey job;
  CheckpointId id;
  bool pinned = false;
  std::optional<base::Error> error;
};
struct DamageFound {  // by the scrubber, in a file of a committed checkpoint
  JobKey job;
  CheckpointId id;
  std::string file;
  std::string what;  // for people
};
struct RepairFinished {
  JobKey job;
  CheckpointId id;
  std::string file, damage;
  std::optional<base::Error> error;
};
struct QuarantineFinished {
  RequestRef ref;
  JobKey job;
  CheckpointId id;
  std::string reason;  // empty: lifted
  std::optional<base::Error> error;
};
struct TrustFinished {
  RequestRef ref;
  JobKey job;
  CheckpointId id;
  Trust trust;
  std::optional<base::Error> error;
};
struct ReindexFinished {
  RequestRef ref;
  std::optional<base::Error> error;
  Catalogue catalogue;
  std::vector<std::string> problems;
};
struct SuccessorChecked {  // the program that is to take the daemon's place was tried
  RequestRef ref;
  std::optional<base::Error> error;
};
struct StopSignal {};  // SIGTERM: drain and leave; a private daemon first waits for its clients to go
struct Tick {};        // time has passed: a deadline may be due

using Event = std::variant<ConnectionOpened, ConnectionClosed, RequestArrived, StagingAllocated, GenerationPersisted,
                           WriteFinished, WaveFinished, ManifestFinished, DiscardFinished, RemoveFinished, PinFinished,
                           DamageFound, RepairFinished, QuarantineFinished, TrustFinished, ReindexFinished,
                           SuccessorChecked, StopSignal, Tick>;

}  // namespace belay::checkpoint::commit
