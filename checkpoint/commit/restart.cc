// A restart that keeps what is in memory: asking for it, draining for it, what is handed over, and what of it is taken
// up. Nothing that is under way is ended for a restart: saves that have begun are waited for, and where they do not end
// in time the restart is what is given up.
#include <algorithm>
#include <set>
#include <utility>

#include "checkpoint/commit/core.h"
#include "checkpoint/format/manifest.h"

namespace belay::checkpoint::commit {

using base::Code;
using base::Error;

void Core::Handle(const RequestRef& ref, const DaemonRestart& /*request*/) {
  const std::uint32_t uid = state_.connections.at(ref.connection).uid;
  if (uid != 0 && uid != config_.daemon_uid) {
    return Answer(ref, Error{Code::kPermissionDenied, "only root and the daemon's own user may restart it", nullptr});
  }
  if (state_.stopping) return Answer(ref, Error{Code::kUnavailable, "belayd is stopping", nullptr});
  if (state_.restarting) return Answer(ref, Error{Code::kBusy, "belayd is about to restart already", nullptr});
  state_.restarting = Restarting{ref};
  Do(CheckSuccessor{ref}, "asked to restart");
}

void Core::Handle(const SuccessorChecked& event) {
  if (!state_.restarting || state_.exited) return;  // told to stop meanwhile
  if (event.error) return EndRestart(*event.error);
  state_.restarting->draining = true;
  state_.restarting->give_up_at = now_ + kDrainPatience;
}

// Without one: the daemon goes on as it is.
void Core::EndRestart(Error error) {
  if (!state_.restarting) return;
  const RequestRef ref = std::exchange(state_.restarting, std::nullopt)->ref;
  Do(Note{}, base::Str("not restarting: ", error.Text()));
  Answer(ref, std::move(error));
}

void Core::EndWhatIsLate() {
  if (RestartDrains() && !state_.exited && now_ >= state_.restarting->give_up_at && Draining()) {
    std::string under_way = "a checkpoint is being deleted";
    for (const auto& [key, job] : state_.jobs) {
      if (job.beginning) under_way = base::Str("a run of job ", key, " is beginning");
      if (!job.snapshots.empty()) {
        under_way = base::Str("job ", key, " is still saving step ", job.snapshots.begin()->first.step);
      }
    }
    EndRestart(Error{Code::kTimeout,
                     base::Str("not restarted: ", under_way, " after ",
                               std::chrono::duration_cast<std::chrono::seconds>(kDrainPatience).count(),
                               " s. belayd goes on as it was; ask again later"),
                     nullptr});
  }
  if (!state_.awaited_until || now_ < *state_.awaited_until) return;
  state_.awaited_until.reset();
  for (auto& [key, job] : state_.jobs) {
    if (job.launcher && job.launcher->connection == 0) job.launcher.reset();
  }
}

HandedOver Core::HandOver() const {
  HandedOver all;
  for (const auto& [id, connection] : state_.connections) {
    if (!state_.restarting || id != state_.restarting->ref.connection) all.clients_awaited = true;
  }
  for (const auto& [key, job] : state_.jobs) {
    HandedJob handed{key, job.generation, job.world_size, job.launcher, job.memory, {}};
    // A run that is done has no use for its memory: it would have been freed when the last rank had left.
    if (!job.free_when_idle) {
      for (const auto& [rank, slot] : job.staging) {
        if (!slot.buffers.front().allocated) continue;
        handed.slots.push_back({rank, slot});
        std::erase_if(handed.slots.back().slot.buffers, [](const StagingBuffer& buffer) { return !buffer.allocated; });
      }
    }
    for (HandedSlot& one : handed.slots) {
      for (const auto& [id, connection] : state_.connections) {
        const auto& attachment = connection.attachment;
        if (!attachment || attachment->job != key || attachment->rank != one.rank) continue;
        std::optional<FormerHolder>& former = one.slot.former;
        if (!former || former->generation <= attachment->generation) {
          former = FormerHolder{attachment->generation, connection.pid};
        }
      }
    }
    if (handed.memory && (handed.slots.empty() || !InMemory(job, handed.memory->id))) handed.memory.reset();
    if (handed.launcher || !handed.slots.empty()) all.jobs.push_back(std::move(handed));
  }
  return all;
}

base::Status Core::CheckHanded(const HandedJob& handed) const {
  const auto found = state_.jobs.find(handed.key);
  if (found == state_.jobs.end()) return base::Fail(Code::kNotFound, "job ", handed.key, " has no folder any more");
  if (found->second.generation != handed.generation) {
    return base::Fail(Code::kCorrupt, "job ", handed.key, " was at generation ", handed.generation, ", its files say ",
                      found->second.generation);
  }
  const auto wrong = [&](const std::string& what) {
    return base::Fail(Code::kCorrupt, "of the memory of job ", handed.key, " ", what);
  };
  if (handed.world_size < 0 || handed.world_size > kWorldSizeMax) return wrong("the world has an impossible size");
  Job as_it_would_be;
  as_it_would_be.generation = handed.generation;
  for (const auto& [rank, slot] : handed.slots) {
    if (rank.value() < 0 || rank.value() >= kWorldSizeMax || slot.bytes == 0 || slot.image_bytes < slot.bytes) {
      return wrong("a rank is impossible");
    }
    if (!as_it_would_be.staging.emplace(rank, slot).second) return wrong(base::Str("rank ", rank, " comes twice"));
    if (slot.buffers.empty() || slot.buffers.size() > kStagingBuffersMax) {
      return wrong(base::Str("rank ", rank, " has ", slot.buffers.size(), " buffers"));
    }
    for (const StagingBuffer& buffer : slot.buffers) {
      if (!buffer.holds) continue;
      if (slot.IsWindow()) return wrong(base::Str("rank ", rank, " has a snapshot in a window"));
      if (buffer.records == nullptr) return wrong(base::Str("rank ", rank, " has no records"));
      BELAY_TRY(CheckSeal(as_it_would_be, rank, RankPart(),
                          SealSnapshot{buffer.holds->step, buffer.files, *buffer.records, {}, {}}));
    }
  }
  if (!handed.memory) return {};
  const MemoryPoint& point = *handed.memory;
  if (point.world_size < 1 || point.world_size > kWorldSizeMax) return wrong("the snapshot's world is impossible");
  BELAY_ASSIGN(const Manifest manifest, DecodeManifest(point.manifest));
  if (JobKey{manifest.project, manifest.job} != handed.key || manifest.world_size != point.world_size ||
      CheckpointId{manifest.generation, manifest.step} != point.id) {
    return wrong("the manifest is another checkpoint's");
  }
  const auto committed = found->second.committed.find(point.id);
  if (committed != found->second.committed.end() && committed->second.info.digest != manifest.digest) {
    return wrong(base::Str("the snapshot ", point.id, " is not what is committed under that name"));
  }
  as_it_would_be.memory = point;
  if (!InMemory(as_it_would_be, point.id)) return {};  // a rank's memory has gone to something else
  const std::map<std::string, MemoryFile> files = MemoryFilesOf(as_it_would_be);
  const bool same = std::ranges::all_of(manifest.files, [&](const ManifestFile& file) {
    const auto held = files.find(file.name);
    return held != files.end() && held->second.bytes == file.bytes && held->second.rank == file.rank;
  });
  if (!same || files.size() != manifest.files.size()) return wrong("the manifest lists other files");
  return {};
}

base::Status Core::TakeUp(const HandedJob& handed) {
  BELAY_TRY(CheckHanded(handed));
  Job& job = state_.jobs.at(handed.key);
  job.world_size = handed.world_size;
  job.memory = handed.memory;
  for (const auto& [rank, slot] : handed.slots) {
    job.staging[rank] = slot;
    for (StagingBuffer& buffer : job.staging[rank].buffers) buffer.allocated = true;
  }
  if (handed.launcher && state_.awaited_until) {
    job.launcher = handed.launcher;
    job.launcher->connection = 0;
  }
  return {};
}

}  // namespace belay::checkpoint::commit
