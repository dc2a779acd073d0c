// Ranks whose staging memory is a window on their state: what they are granted, and the pieces that they have written.
//
// A window's bytes are overwritten while the save goes on, so it never holds a snapshot: such a save is restorable from
// disk only, once it is committed.
#include <algorithm>
#include <utility>

#include "checkpoint/commit/core.h"
#include "runtime/base/check.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::commit {

using base::Code;
using base::Error;

// What a rank gets: `bytes`, which is what it asks for in whole pages, or a window of what it can do with at least.
base::Result<std::uint64_t> Core::GrantStaging(const Attach& request, std::uint64_t bytes) {
  const JobKey& key = request.job;
  const base::Rank rank = request.rank;
  const std::int32_t world_size = request.world_size;
  const std::uint64_t asked = request.staging_bytes, window_min = request.window_bytes_min;
  const Job& job = state_.jobs.at(key);
  WindowDemand demand;
  demand.asked_bytes = asked;
  demand.window_min_bytes = window_min;
  // And what the others need at least: a rank that took all would leave them without a save, and itself with them.
  // Not more than half of this one's, though: with small states a window is hardly smaller than all.
  const std::uint64_t least = std::min(window_min, bytes / 2);
  std::uint64_t spare = 0;
  for (std::int32_t r = 0; r < world_size; ++r) {
    const auto other = job.staging.find(base::Rank(r));
    const std::uint64_t has = other == job.staging.end() ? 0 : other->second.BytesHeld();
    if (base::Rank(r) == rank || has >= least) continue;  // also where window_min is 0
    ++demand.ranks_to_come;
    spare += least - has;
  }
  base::Status room = MakeRoomForStaging(key, rank, world_size, bytes, spare);
  if (room) return bytes;
  if (window_min == 0 || window_min >= asked) return tl::unexpected(room.error());
  const auto own = job.staging.find(rank);
  demand.held_bytes = StagingBytesHeld() - (own == job.staging.end() ? 0 : own->second.BytesHeld());
  demand.budget_bytes = config_.memory_budget_bytes;
  std::uint64_t window = ChooseWindow(demand);
  if (window < window_min) {  // not without what idle jobs hold
    window =
        std::min(base::AlignUp(window_min, kStagingAlignment), (asked - 1) / kStagingAlignment * kStagingAlignment);
    if (!MakeRoomForStaging(key, rank, world_size, window, 0)) {
      return base::Fail(room.error().code, room.error().Text(), "; to save in waves it needs ",
                        base::HumanBytes(window));
    }
  }
  return window;
}

// Made when there was no room, and now there is.
bool Core::Outgrown(const Job& job, const StagingSlot& slot) const {
  if (!slot.IsWindow() || !job.snapshots.empty()) return false;
  return AdmitStaging({slot.image_bytes, StagingBytesHeld() - slot.BytesHeld(), config_.memory_budget_bytes})
      .has_value();
}

base::Status Core::CheckWave(const Job& job, base::Rank rank, const RankPart& part, const WavePiece& wave) const {
  const StagingSlot& slot = job.staging.at(rank);
  if (!slot.IsWindow()) {
    return base::Fail(Code::kInvalidArgument, "rank ", rank, " has memory for its whole state: it has no waves");
  }
  if (!IsShardName(rank, wave.name)) {
    return base::Fail(Code::kInvalidArgument, "rank ", rank, " cannot have a file named '",
                      wave.name.substr(0, kFileNameBytesMax), "'");
  }
  if (wave.bytes == 0 || wave.offset % kStagingAlignment != 0 || wave.offset > slot.bytes ||
      wave.bytes > slot.bytes - wave.offset) {
    return base::Fail(Code::kInvalidArgument, "a wave of ", wave.bytes, " bytes at ", wave.offset,
                      " lies outside the staging memory of ", slot.bytes, " bytes or not on a 4096 boundary");
  }
  if (wave.file_offset == 0 || wave.file_offset % kStagingAlignment != 0 || wave.file_bytes > slot.image_bytes ||
      wave.file_offset > wave.file_bytes || wave.bytes > wave.file_bytes - wave.file_offset) {
    return base::Fail(Code::kInvalidArgument, "a wave of ", wave.bytes, " bytes at ", wave.file_offset, " of ",
                      wave.name, " with ", wave.file_bytes, " bytes, which is not in it, or not on a 4096 boundary");
  }
  std::uint64_t bytes = wave.file_bytes;
  for (const auto& [name, file] : part.streamed) bytes += name == wave.name ? 0 : file.bytes;
  if (bytes > slot.image_bytes || (part.streamed.size() >= kFilesMax && !part.streamed.contains(wave.name))) {
    return base::Fail(Code::kLimitExceeded, "rank ", rank, " writes ", bytes, " bytes, and was admitted with ",
                      slot.image_bytes);
  }
  const auto file = part.streamed.find(wave.name);
  if (file == part.streamed.end()) return {};
  if (file->second.next != wave.file_offset || file->second.bytes != wave.file_bytes) {
    return base::Fail(Code::kInvalidArgument, "the next wave of ", wave.name, " begins at ", file->second.next,
                      ", not at ", wave.file_offset);
  }
  return {};
}

void Core::Handle(const RequestRef& ref, const WriteWave& request) {
  const auto attachment = AttachmentOf(ref.connection);
  if (!attachment) return Answer(ref, attachment.error());
  Job& job = state_.jobs.at(attachment->job);
  const CheckpointId id{job.generation, request.step};
  const auto found = job.snapshots.find(id);
  if (found == job.snapshots.end() || found->second.failure) return Answer(ref, NoSnapshot(job, request.step));
  Snapshot& snapshot = found->second;
  const auto part = snapshot.parts.find(attachment->rank);
  if (part == snapshot.parts.end() || part->second.phase != PartPhase::kFilling) {
    return Answer(
        ref,
        Error{Code::kInvalidArgument, base::Str("rank ", attachment->rank, " is not filling step ", request.step), {}});
  }
  if (auto good = CheckWave(job, attachment->rank, part->second, request.piece); !good)
    return Answer(ref, good.error());
  const WavePiece& piece = request.piece;
  const auto [file, is_first] =
      part->second.streamed.try_emplace(piece.name, piece.file_offset, piece.file_offset, piece.file_bytes);
  file->second.next += piece.bytes;
  ++part->second.waves_running;
  ++snapshot.writes_running;
  Do(WriteWavePiece{ref, attachment->job, id, attachment->rank, piece, is_first});
}

void Core::Handle(const WaveFinished& event) {
  Job& job = state_.jobs.at(event.job);
  BELAY_CHECK(job.snapshots.contains(event.id), "a wave of ", event.id, " ended after its snapshot");
  Snapshot& snapshot = job.snapshots.at(event.id);
  RankPart& part = snapshot.parts.at(event.rank);
  BELAY_CHECK(part.waves_running > 0 && snapshot.writes_running > 0, "rank ", event.rank, " wrote a wave twice");
  --part.waves_running;
  --snapshot.writes_running;
  // What has left the window is nowhere else: without the disk there is no snapshot, not even one in memory.
  if (event.error) FailSnapshot(event.job, event.id, *event.error);
  if (event.error)
    Answer(event.ref, *event.error);
  else
    Answer(event.ref, Done{});
  if (!event.error) Advance(event.job, event.id);
}

}  // namespace belay::checkpoint::commit
