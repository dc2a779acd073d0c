// The core's memory of what is under way. Plain data; only the core's own sources change it.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "checkpoint/commit/events.h"
#include "checkpoint/commit/types.h"
#include "runtime/base/clock.h"

namespace belay::checkpoint::commit {

// One rank's share of a snapshot under way.
enum class PartPhase : std::uint8_t {
  kFilling,   // the trainer copies into staging memory
  kSealed,    // complete in memory; being written
  kPrepared,  // its files are on disk, synced
  kFailed,    // its files could not be written
};
struct RankPart {
  PartPhase phase = PartPhase::kFilling;
  std::vector<SealedFile> files;
  std::shared_ptr<const std::string> records;
  std::map<std::string, double> metrics;
  std::optional<base::Step> parent_step;
  std::string layout_fingerprint;
  std::vector<InspectedFile> inspected;
  std::uint64_t bytes = 0;
  double write_seconds = 0;
  struct Streamed {  // a file that is written in waves: so far [begin, next) of its `bytes`
    std::uint64_t begin = 0, next = 0, bytes = 0;
  };
  std::map<std::string, Streamed> streamed;
  int waves_running = 0;
  bool queued = false;  // sealed, and its write waits for that of the snapshot before
};

// A snapshot from the first rank's BeginSnapshot until it is committed, or failed and its files are gone.
struct Snapshot {
  CheckpointId id;
  std::size_t buffer = 0;  // of every rank's staging memory
  std::int32_t world_size = 1;
  std::string reason;
  std::map<base::Rank, RankPart> parts;
  std::optional<base::Error> failure;  // set once; from then on it only winds down
  // The disk failed a rank. The others may still seal: whole in memory it can be restored from, though it will fail.
  std::optional<base::Error> disk_failure;
  int writes_running = 0;  // queued ones too
  bool publishing = false;
  bool memory_tried = false;  // a failed one whose memory may be restorable has had its manifest assembled
  bool discarding = false;

  bool SealedByAll() const {
    if (parts.size() != static_cast<std::size_t>(world_size)) return false;
    for (const auto& [rank, part] : parts) {
      if (part.phase == PartPhase::kFilling) return false;
    }
    return true;
  }
};

// The last step that was refused or failed, and who knows. All ranks must get the same answer for a step, or some would
// save what others skip: a rank that has not asked yet gets this answer, one that asks again starts a new round.
struct Refusal {
  base::Step step;
  base::Error error;
  std::set<base::Rank> told;
};

// Who may have a rank's memory mapped without a connection to this daemon: its connection was to the one before.
struct FormerHolder {
  base::Generation generation;
  std::int32_t pid = 0;
};

// Room for one snapshot of a rank. `holds` names the complete one in it.
struct StagingBuffer {
  bool allocated = false;  // false while the daemon makes it
  std::optional<CheckpointId> holds;
  std::vector<SealedFile> files;
  std::shared_ptr<const std::string> records;
};

// Staging memory of one rank: one buffer, and more where saves come faster than the disk takes them (buffers.cc).
struct StagingSlot {
  std::uint64_t bytes = 0;                // of a buffer
  std::uint64_t image_bytes = 0;          // what a save of this rank writes; more than `bytes` where it saves in waves
  std::optional<std::int32_t> numa_node;  // that was asked for
  std::optional<FormerHolder> former;     // until somebody attaches to it
  bool takes_more = false;                // its trainer knows of buffers beyond the first
  std::vector<StagingBuffer> buffers = std::vector<StagingBuffer>(1);

  bool IsWindow() const { return bytes < image_bytes; }
  std::uint64_t BytesHeld() const { return bytes * buffers.size(); }
  bool Holds(CheckpointId id, std::size_t buffer) const {
    return buffer < buffers.size() && buffers[buffer].holds == id;
  }
};

// A snapshot that is whole in memory: committed, or failed on disk only.
struct MemoryPoint {
  CheckpointId id;
  std::int32_t world_size = 1;
  std::string manifest;
  Trust trust;             // of one that was never committed
  std::size_t buffer = 0;  // that it lies in; another may hold an earlier attempt at the same step
};

struct Attachment {
  JobKey job;
  base::Generation generation;
  base::Rank rank;
  std::string layout_fingerprint;
};

struct Launcher {
  ConnectionId connection = 0;  // 0: it held the job at the daemon before this one, and is awaited
  std::int32_t pid = 0;
  std::string host;
};

// A BeginRun that waits for older snapshots to end and for its generation to be durable.
struct Beginning {
  RequestRef ref;
  Launcher launcher;
  std::int32_t world_size = 1;
  base::Generation generation;  // the one to be granted
  bool persisting = false;
  bool abandoned = false;  // its connection has gone
};

struct Outcome {
  SnapshotState state = SnapshotState::kFailed;
  std::optional<base::Error> failure;
  struct Rank {
    double write_seconds = 0;
    std::uint64_t bytes = 0;
  };
  std::map<base::Rank, Rank> ranks;
};

struct Committed {
  CommittedInfo info;  // its pinned: as it is on disk
  bool removing = false;
  int pins_under_way = 0;  // PersistPin orders that will pin it: retention must not overtake the file
  int repairs_running = 0;
  int trust_marks_under_way = 0;  // PersistTrust orders: what is on disk is behind info.trust

  bool Pinned() const { return info.pinned || pins_under_way > 0; }
  // There, to stay, and good as far as anybody knows.
  bool Sound() const { return !removing && info.quarantine.empty(); }
  bool Suspect() const { return info.trust.state == TrustState::kSuspect; }
};

struct HeldBegin {  // a BeginSnapshot that waits for retention to make room
  RequestRef ref;
  BeginSnapshot request;
};

struct Job {
  std::uint32_t owner_uid = 0;
  base::Generation generation;
  std::int32_t world_size = 0;  // of the generation; 0: not known since a restart of the daemon
  Retention retention;
  bool has_retention = false;
  std::optional<Launcher> launcher;
  std::optional<Beginning> beginning;
  std::map<base::Rank, ConnectionId> attached;
  std::map<base::Rank, StagingSlot> staging;
  std::map<CheckpointId, Snapshot> snapshots;  // under way
  std::optional<Refusal> refusal;
  std::optional<MemoryPoint> memory;
  std::map<CheckpointId, Committed> committed;
  std::map<CheckpointId, Outcome> outcomes;  // the last few
  std::vector<HeldBegin> held_begins;
  std::map<CheckpointId, std::vector<RequestRef>> remove_waiters;
  bool free_when_idle = false;  // the run is done: nobody needs the staging memory any more
  base::SteadyTime last_used{};
};

struct Waiter {
  RequestRef ref;
  JobKey job;
  CheckpointId id;
  base::Rank rank;
  base::SteadyTime deadline{};
};

struct ConnectionState {
  std::uint32_t uid = 0;
  std::int32_t pid = 0;
  std::optional<Attachment> attachment;
  std::set<std::pair<JobKey, CheckpointId>> reading;  // restores that may still be under way
};

// A restart that was asked for.
struct Restarting {
  RequestRef ref;
  bool draining = false;          // the new program is good: only what is under way is waited for
  base::SteadyTime give_up_at{};  // if draining
};

struct State {
  std::map<ConnectionId, ConnectionState> connections;
  std::map<JobKey, Job> jobs;
  std::vector<Waiter> waiters;
  bool ever_connected = false;
  bool stopping = false;
  bool exited = false;
  std::optional<Restarting> restarting;
  // After a restart with clients connected: until then they are expected back, and their jobs are kept for them.
  std::optional<base::SteadyTime> awaited_until;
  base::SteadyTime idle_since{};
};

}  // namespace belay::checkpoint::commit
