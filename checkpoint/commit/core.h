// The commit protocol's core: a pure state machine. `Step(event, now)` answers with actions and why; it does no I/O,
// reads no clock, starts no thread, so a simulation can run it from a seed.
//
// A snapshot's life (checkpoint/README.md has the picture):
//
//   BeginSnapshot of the first rank -> FILLING -> each rank: SealSnapshot -> StartWrite -> PREPARED
//     -> all ranks PREPARED -> PublishManifest -> COMMITTED -> retention
//   any failure -> wait for running writes -> keep what is whole in memory -> DiscardFiles -> FAILED
//
// Invariants:
//   - snapshots under way lie in different buffers of the staging memory, and a rank's are written one after the other;
//   - only the job's newest generation can commit;
//   - all ranks get the same answer to BeginSnapshot of one step;
//   - PublishManifest is asked for only when every rank of the world is PREPARED;
//   - a quarantined checkpoint is offered from memory only, and retention keeps a good one for it;
//   - a checkpoint is never deleted while it is the newest, pinned or open in a restore (unless a person forces it);
//   - every request is answered exactly once, unless its connection closes first.
//
// One thread. Sources by idea: core.cc (dispatch, connections, time), runs.cc, snapshots.cc, disk_room.cc, buffers.cc,
// waves.cc, catalogue.cc, quarantine.cc, restart.cc, trust.cc.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/commit/actions.h"
#include "checkpoint/commit/admission.h"
#include "checkpoint/commit/events.h"
#include "checkpoint/commit/handover.h"
#include "checkpoint/commit/state.h"
#include "runtime/base/clock.h"

namespace belay::checkpoint::commit {

struct CoreConfig {
  std::uint32_t daemon_uid = 0;
  bool is_private = false;  // exits when nobody is connected any more
  base::Duration linger = std::chrono::seconds(2);
  base::Duration first_connection_wait = std::chrono::seconds(60);  // private: exits if nobody ever connects
  std::uint64_t memory_budget_bytes = 0;
  std::uint64_t disk_reserve_bytes = 64U << 20;
  std::size_t snapshots_in_flight = 2;  // of one job at most, where the memory budget has room for them
  bool clients_awaited = false;         // clients of the daemon before this one are about to connect again
};

class Core {
 public:
  Core(CoreConfig config, Catalogue catalogue, base::SteadyTime now);

  std::vector<Action> Step(const Event& event, base::SteadyTime now);
  // When a Tick is due at the latest; none: not before another event.
  std::optional<base::SteadyTime> NextDeadline() const;

  const State& state() const { return state_; }

  // For a restart. What is in memory, once Exit{restart} was asked for; and, before the first Step of another core, one
  // job of it: the staging memory is there. On an error nothing of the job was taken up.
  // kNotFound, kCorrupt: it does not fit the files, or itself.
  HandedOver HandOver() const;
  base::Status TakeUp(const HandedJob& handed);

 private:
  // core.cc
  void Handle(const ConnectionOpened& event);
  void Handle(const ConnectionClosed& event);
  void Handle(const RequestArrived& event);
  void Handle(const StopSignal& event);
  void Handle(const Tick& event);
  void Handle(const RequestRef& ref, const DaemonStatus& request);
  void Handle(const RequestRef& ref, const DaemonStop& request);
  void AnswerDueWaiters();
  void ExitIfDrained();
  bool Draining() const;
  void StopGently();

  // runs.cc
  void Handle(const RequestRef& ref, const BeginRun& request);
  void Handle(const RequestRef& ref, const HoldRun& request);
  void Handle(const RequestRef& ref, const EndRun& request);
  void Handle(const RequestRef& ref, const Attach& request);
  void Handle(const StagingAllocated& event);
  void Handle(const GenerationPersisted& event);
  base::Status CheckBeginRun(const RequestRef& ref, const BeginRun& request) const;
  base::Status CheckHoldRun(const RequestRef& ref, const HoldRun& request) const;
  base::Status CheckAttach(const RequestRef& ref, const Attach& request) const;
  // `spare_bytes`: that much shall be left beside them.
  base::Status MakeRoomForStaging(const JobKey& key, base::Rank rank, std::int32_t world_size, std::uint64_t bytes,
                                  std::uint64_t spare_bytes);
  void ContinueBeginning(const JobKey& key);
  bool HeldByOlderRun(ConnectionId connection, const Attach& request) const;
  bool Misplaced(const Job& job, const StagingSlot& slot, const Attach& request) const;
  void DetachConnection(ConnectionId connection, const std::string& why);
  void FreeStagingOf(const JobKey& key, const std::string& why);
  void FreeStagingIfIdle(const JobKey& key);
  void FreeStagingOfFormerWorld(const JobKey& key);
  std::uint64_t StagingBytesHeld() const;

  // snapshots.cc
  void Handle(const RequestRef& ref, const BeginSnapshot& request, const std::vector<FolderSpace>& space,
              bool last_try);
  void Handle(const RequestRef& ref, const WriteWave& request);
  void Handle(const RequestRef& ref, const SealSnapshot& request);
  void Handle(const RequestRef& ref, const AbandonSnapshot& request);
  void Handle(const RequestRef& ref, const WaitSnapshot& request);
  void Handle(const WriteFinished& event);
  void Handle(const WaveFinished& event);
  void Handle(const ManifestFinished& event);
  void Handle(const DiscardFinished& event);
  base::Result<Attachment> AttachmentOf(ConnectionId connection) const;
  base::Status CheckSeal(const Job& job, base::Rank rank, const RankPart& part, const SealSnapshot& request) const;
  static bool IsShardName(base::Rank rank, std::string_view name);
  void JoinSnapshot(const RequestRef& ref, const JobKey& key, CheckpointId id, base::Rank rank);
  void GiveMemoryAway(const JobKey& key, const Snapshot& snapshot);
  void RefuseBegin(const RequestRef& ref, const JobKey& key, base::Rank rank, base::Step step, base::Error error);
  void FailSnapshot(const JobKey& key, CheckpointId id, base::Error error);
  void FailUnsealed(const JobKey& key, const base::Error& error);  // those that not every rank has sealed
  void StartWriting(const JobKey& key, Snapshot& snapshot, base::Rank rank);
  void Advance(const JobKey& key, CheckpointId id);
  void AskForManifest(const JobKey& key, CheckpointId id, bool memory_only);
  void EndSnapshot(const JobKey& key, CheckpointId id, SnapshotState state);
  static std::vector<CheckpointId> UnderWay(const Job& job);  // of what may end on the way through them
  static base::Error NoSnapshot(const Job& job, base::Step step);
  SnapshotOutcome OutcomeOf(const Job& job, CheckpointId id, base::Rank rank) const;

  // disk_room.cc
  base::Status Admit(const JobKey& key, const std::vector<FolderSpace>& space) const;
  DiskDemand DemandOf(const JobKey& key, const std::vector<FolderSpace>& space, std::uint64_t device) const;

  // buffers.cc
  static bool HasBuffer(const StagingSlot& slot, std::size_t buffer);
  static std::optional<std::size_t> FreeBuffer(const Job& job);
  void GrowBuffers(const JobKey& key);
  static void AddBuffer(StagingSlot& slot, const StagingAllocated& event);
  void DropUnusedBuffers(const JobKey& key);

  // waves.cc
  base::Result<std::uint64_t> GrantStaging(const Attach& request, std::uint64_t bytes);
  bool Outgrown(const Job& job, const StagingSlot& slot) const;
  base::Status CheckWave(const Job& job, base::Rank rank, const RankPart& part, const WavePiece& wave) const;

  // catalogue.cc
  void Handle(const RequestRef& ref, const RestorePoints& request);
  void Handle(const RequestRef& ref, const OpenCheckpoint& request);
  void Handle(const RequestRef& ref, const ListCheckpoints& request);
  void Handle(const RequestRef& ref, const PinCheckpoint& request);
  void Handle(const RequestRef& ref, const RemoveCheckpoint& request);
  void Handle(const RequestRef& ref, const QuarantineCheckpoint& request);
  void Handle(const RequestRef& ref, const JudgeCheckpoint& request);
  void Handle(const RequestRef& ref, const Reindex& request);
  void Handle(const RemoveFinished& event);
  void Handle(const PinFinished& event);
  void Handle(const DamageFound& event);
  void Handle(const RepairFinished& event);
  void Handle(const QuarantineFinished& event);
  void Handle(const TrustFinished& event);
  void Handle(const ReindexFinished& event);
  // Starts deleting what the job's policy lets go; how many deletions began.
  std::size_t ApplyRetention(const JobKey& key);
  static bool Removing(const Job& job);
  bool InMemory(const Job& job, CheckpointId id) const;
  bool InUse(const JobKey& key, CheckpointId id) const;
  base::Status CheckJudge(const RequestRef& ref, const JudgeCheckpoint& request) const;
  // Newest first; then the suspect ones, likewise.
  std::vector<RestorePoint> PointsOf(const Job& job) const;
  std::optional<CheckpointId> Resolve(const Job& job, base::Step step, base::Generation generation) const;
  static std::map<std::string, MemoryFile> MemoryFilesOf(const Job& job);
  void SetQuarantine(const RequestRef& ref, const JobKey& key, CheckpointId id, const std::string& reason);
  void OpenMemory(const RequestRef& ref, const JobKey& key, const Job& job, CheckpointId id,
                  const std::vector<std::string>& names);
  void StopReadingIn(std::int32_t pid);

  // restart.cc
  void Handle(const RequestRef& ref, const DaemonRestart& request);
  void Handle(const SuccessorChecked& event);
  void EndRestart(base::Error error);
  void EndWhatIsLate();
  bool RestartDrains() const { return state_.restarting && state_.restarting->draining; }
  base::Status CheckHanded(const HandedJob& handed) const;

  // shared
  base::Status CheckOwner(ConnectionId connection, const JobKey& key) const;
  Job* FindJob(const JobKey& key);
  void Answer(const RequestRef& ref, ReplyBody body, std::string reason = {});
  void Do(decltype(Action::what) what, std::string reason = {});

  CoreConfig config_;
  State state_;
  base::SteadyTime now_{};
  std::vector<Action> actions_;
};

}  // namespace belay::checkpoint::commit
