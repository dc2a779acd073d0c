// The client of belayd, without protobuf in sight: what the runtime, the launcher and `belay ckpt` call.
//
// A Client is one connection. Thread-safe: any thread may call; calls that wait (BeginRun, WaitSnapshot) do not hold up
// the others. When the connection breaks every pending call fails with kUnavailable and the Client is finished: connect
// again. A call that is not answered in time (kTimeout) ends the connection too. Protocol, deadlines and what each call
// means: checkpoint/protocol/PROTOCOL.md.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/format/manifest.h"
#include "checkpoint/format/trust.h"
#include "runtime/base/clock.h"
#include "runtime/base/file_system.h"
#include "runtime/base/ids.h"
#include "runtime/base/result.h"
#include "runtime/base/transport.h"
#include "runtime/base/unique_fd.h"

namespace belay::checkpoint {

struct JobKey {
  std::string project = "default";
  std::string job;
  friend auto operator<=>(const JobKey&, const JobKey&) = default;
};
struct CheckpointKey {
  JobKey job;
  base::Step step;
  base::Generation generation;  // 0: the newest of that step
};

struct RunGrant {
  base::Generation generation;
  std::optional<base::Step> newest_step;
  std::uint32_t suspects = 0;  // checkpoints that are not offered because resumes from them failed
};

struct Retention {
  std::uint32_t keep_last = 3;
  std::uint32_t keep_every = 0;
  std::uint32_t keep_best = 0;
  std::string metric = "loss";
  bool larger_is_better = false;
};

struct AttachRequest {
  JobKey job;
  base::Generation generation;
  base::Rank rank;
  std::int32_t world_size = 1;
  std::uint64_t staging_bytes = 0;
  std::string layout_fingerprint;
  Retention retention;
  std::uint64_t window_bytes_min = 0;     // so much will do where there is no room for staging_bytes; 0: it will not
  std::optional<std::int32_t> numa_node;  // where the staging memory had best lie; none: anywhere
  bool takes_more_buffers = false;        // what BeginSnapshot answers is heeded
};
struct Attachment {
  base::UniqueFd staging;           // memfd, already touched or being touched by the daemon
  std::uint64_t staging_bytes = 0;  // less than asked for: the state is to be saved in waves
  bool reused = false;
};

// Where a snapshot goes: buffer 0 is the memory of Attach; others come where saves are faster than the disk.
struct Begun {
  std::size_t buffer = 0;
  base::UniqueFd staging;   // of another buffer: always the same memory on one connection
  std::uint64_t bytes = 0;  // of `staging`
};

// A piece of a file, from staging memory that does not hold all of it.
struct WaveRequest {
  base::Step step;
  std::string name;
  std::uint64_t file_bytes = 0;         // of the whole file
  std::uint64_t file_offset = 0;        // the pieces of a file follow each other, from the end of its header
  std::uint64_t offset = 0, bytes = 0;  // in the staging memory
};

struct SealedFile {
  std::string name;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;
  std::optional<StepAndGeneration> origin;  // of an image that an earlier save left there; none: this save's own
};
struct SealRequest {
  base::Step step;
  std::vector<SealedFile> files;
  std::string records;
  std::map<std::string, double> metrics;
  std::optional<base::Step> parent_step;
};

// How long an answer that needs no waiting may take before the daemon counts as stuck. Generous: a daemon under memory
// pressure touches gigabytes of staging memory before it answers Attach.
inline constexpr base::Duration kCallTimeout = std::chrono::seconds(60);
// For what the training loop itself waits for: a daemon that hangs must cost a save, not a minute of every rank.
inline constexpr base::Duration kTrainingTimeout = std::chrono::seconds(3);

enum class SnapshotState : std::uint8_t { kFilling = 1, kSealed = 2, kPrepared = 3, kCommitted = 4, kFailed = 5 };
struct SnapshotOutcome {
  base::Step step;
  SnapshotState state = SnapshotState::kFilling;
  std::optional<base::Error> failure;
  double write_seconds = 0;
  std::uint64_t bytes = 0;
};

struct RestorePoint {
  base::Step step;
  base::Generation generation;
  bool in_memory = false;
  std::int32_t world_size = 1;
  bool committed = true;  // durable; else whole in the daemon's memory only, and gone with it
  bool suspect = false;   // resumes from it failed: not to be taken unless somebody asks for it
};
struct OpenedFile {
  std::string name;
  base::UniqueFd descriptor;  // read-only; memory or disk alike
  std::uint64_t offset = 0;   // where the file's image begins in it
  std::uint64_t bytes = 0;
};
struct OpenedCheckpoint {
  Manifest manifest;
  std::vector<OpenedFile> files;
};

struct CheckpointInfo {
  CheckpointKey key;
  std::uint64_t bytes = 0;
  std::string created, reason, directory, digest;
  std::int32_t world_size = 1;
  bool pinned = false;
  bool in_memory = false;
  std::map<std::string, double> metrics;
  std::string quarantine;  // what damage was found in it; empty: none
  Trust trust;             // judged_by is not told
};

// As in commit/trust.h.
enum class Judgement : std::uint8_t { kFailed = 1, kDiverged = 2, kProved = 3, kGood = 4, kSuspect = 5, kUnknown = 6 };

struct RunInfo {
  JobKey job;
  base::Generation generation;
  std::int32_t world_size = 0;
  std::int32_t attached = 0;
  std::int32_t launcher_pid = 0;
};
struct ScrubReport {                   // counts are of the pass under way, else of the last one
  std::uint64_t bytes_per_second = 0;  // 0: off
  bool under_way = false;
  std::string began, ended;  // RFC 3339, UTC; empty: never. `ended`: of the last pass that went to its end
  std::uint64_t files = 0, bytes = 0, damaged = 0, unreadable = 0;
};
struct RestartReport {          // of the last restart of the process
  std::uint64_t attempts = 0;   // in its whole life
  std::string failure;          // why nothing else was put in its place; empty: it was, or there was no restart
  std::string from_version;     // empty: no belayd was before this one
  std::uint32_t snapshots = 0;  // taken up whole in memory
  std::uint64_t bytes = 0;      // of staging memory taken up
  std::string lost;             // what was not, and why
  double away_seconds = 0;
};
struct BulkReport {  // how large files are written and read
  base::BulkShape shape;
  std::string measured;  // RFC 3339, UTC: when it was found to suit the device; empty: it is the default
};
struct DataFolderReport {
  std::string path;
  std::uint64_t disk_available_bytes = 0, disk_total_bytes = 0;
  bool retired = false;  // read from, not written to
  std::string missing;   // why it cannot be used; empty: it is there
  BulkReport bulk{};
};
struct DaemonReport {
  std::int32_t pid = 0;
  std::string belay_version, data_dir, socket, writer;
  double uptime_seconds = 0;
  std::uint64_t staging_bytes = 0, disk_available_bytes = 0, disk_total_bytes = 0;
  std::uint64_t checkpoints = 0, checkpoint_bytes = 0;
  std::uint32_t connections = 0;
  bool is_private = false;
  ScrubReport scrub;
  RestartReport restart;
  BulkReport bulk;  // in data_dir
  std::vector<RunInfo> runs;
  std::vector<DataFolderReport> also;  // data folders beside data_dir
};
struct ReindexReport {
  std::uint64_t checkpoints = 0;
  std::vector<std::string> problems;
};

class Client {
 public:
  // Says hello; kUnavailable if nobody answers, kProtocolVersion, kPermissionDenied (another user's daemon).
  static base::Result<std::unique_ptr<Client>> Connect(base::Transport& transport, const std::string& socket,
                                                       const std::string& program,
                                                       base::Duration timeout = std::chrono::seconds(5));
  virtual ~Client() = default;

  virtual base::Result<RunGrant> BeginRun(const JobKey& job, std::int32_t world_size,
                                          base::Generation continues = {}) = 0;
  // Takes hold of the run again after the connection of BeginRun broke; its generation stays. kStaleGeneration: a newer
  // run has begun meanwhile. kJobBusy: another launcher holds it.
  virtual base::Status HoldRun(const JobKey& job, std::int32_t world_size, base::Generation generation) = 0;
  virtual base::Status EndRun(const JobKey& job, base::Generation generation, const std::string& outcome) = 0;

  virtual base::Result<Attachment> Attach(const AttachRequest& request, base::Duration timeout = kCallTimeout) = 0;
  virtual base::Result<Begun> BeginSnapshot(base::Step step, const std::string& reason) = 0;
  // Returns once the piece is with the disk and its place may be filled again.
  virtual base::Status WriteWave(const WaveRequest& request) = 0;
  virtual base::Status SealSnapshot(const SealRequest& request) = 0;
  virtual base::Status AbandonSnapshot(base::Step step, const std::string& why) = 0;
  // Returns when the step is committed or failed, or the deadline passes (then the state so far).
  virtual base::Result<SnapshotOutcome> WaitSnapshot(base::Step step, base::Duration deadline) = 0;

  virtual base::Result<std::vector<RestorePoint>> RestorePoints(const JobKey& job) = 0;
  virtual base::Result<OpenedCheckpoint> OpenCheckpoint(const CheckpointKey& key, bool from_memory,
                                                        const std::vector<std::string>& files) = 0;

  virtual base::Result<std::vector<CheckpointInfo>> ListCheckpoints(const std::string& project,
                                                                    const std::string& job) = 0;
  virtual base::Status PinCheckpoint(const CheckpointKey& key, bool pinned) = 0;
  virtual base::Status RemoveCheckpoint(const CheckpointKey& key, bool force) = 0;
  // Keeps restores away from it, or with an empty reason lifts that.
  virtual base::Status QuarantineCheckpoint(const CheckpointKey& key, const std::string& reason) = 0;
  // What a resume from it has shown (`by`: the run that says so), or what a person believes. Answers what is believed
  // now. kStaleGeneration: a newer run has begun.
  virtual base::Result<Trust> JudgeCheckpoint(const CheckpointKey& key, Judgement judgement, base::Generation by,
                                              const std::string& reason) = 0;
  virtual base::Result<DaemonReport> GetDaemonStatus() = 0;
  virtual base::Status StopDaemon(bool force) = 0;
  // Puts the belayd that is installed now in its place; what is in memory stays. Returns when nothing is under way any
  // more and the connection is about to end, or with why it goes on as it was. How it went, the next one reports.
  virtual base::Status RestartDaemon() = 0;
  virtual base::Result<ReindexReport> Reindex() = 0;

  // True once the connection has broken. Any thread.
  virtual bool Broken() const = 0;
  // Blocks until the connection breaks or the deadline passes; true if broken. For whoever watches the daemon.
  virtual bool WaitBroken(base::Duration deadline) = 0;
};

}  // namespace belay::checkpoint
