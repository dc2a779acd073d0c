// Which of a rank's staging buffers a snapshot goes to, and when there are more of them.
//
// One buffer is enough while the disk has written a snapshot before the next begins. The first save that finds it taken
// is put off, as it must be, and asks for a second buffer a rank if the memory budget has room for all of them. Its
// pages are made beside training, and the next time the disk falls behind, the save goes on in the other buffer.
#include <algorithm>

#include "checkpoint/commit/core.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::commit {

bool Core::HasBuffer(const StagingSlot& slot, std::size_t buffer) {
  return buffer == 0 || (slot.takes_more && buffer < slot.buffers.size() && slot.buffers[buffer].allocated);
}

// One that every rank has and no snapshot under way lies in; best one that does not hold the newest complete snapshot.
std::optional<std::size_t> Core::FreeBuffer(const Job& job) {
  std::optional<std::size_t> best;
  for (std::size_t buffer = 0; buffer < kStagingBuffersMax; ++buffer) {
    bool everywhere = true, newest = false;
    for (std::int32_t i = 0; i < job.world_size && everywhere; ++i) {
      const auto slot = job.staging.find(base::Rank(i));
      everywhere = slot == job.staging.end() ? buffer == 0 : HasBuffer(slot->second, buffer);
      newest |= everywhere && slot != job.staging.end() && job.memory && job.memory->buffer == buffer &&
                slot->second.Holds(job.memory->id, buffer);
    }
    if (!everywhere) break;
    const bool taken = std::ranges::any_of(job.snapshots, [&](const auto& one) { return one.second.buffer == buffer; });
    if (taken) continue;
    if (!newest) return buffer;
    best = best ? best : buffer;
  }
  return best;
}

// Another buffer for every rank that has the fewest, if all can use it and the budget has room.
void Core::GrowBuffers(const JobKey& key) {
  Job& job = state_.jobs.at(key);
  if (std::ranges::any_of(job.snapshots, [](const auto& one) { return !one.second.SealedByAll(); })) return;
  std::size_t fewest = kStagingBuffersMax;
  for (std::int32_t i = 0; i < job.world_size; ++i) {
    const auto slot = job.staging.find(base::Rank(i));
    if (slot == job.staging.end() || slot->second.IsWindow() || !slot->second.takes_more) return;
    if (!slot->second.buffers.back().allocated) return;  // on its way
    fewest = std::min(fewest, slot->second.buffers.size());
  }
  if (fewest >= std::min(config_.snapshots_in_flight, kStagingBuffersMax)) return;
  MemoryDemand demand;
  demand.held_bytes = StagingBytesHeld();
  demand.budget_bytes = config_.memory_budget_bytes;
  for (std::int32_t i = 0; i < job.world_size; ++i) {
    const StagingSlot& slot = job.staging.at(base::Rank(i));
    if (slot.buffers.size() == fewest) demand.asked_bytes += slot.bytes;
  }
  if (!AdmitStaging(demand)) return;
  std::string reason =
      base::Str("job ", key, " saves faster than the disk writes: ", base::HumanBytes(demand.asked_bytes),
                " more staging memory, for ", fewest + 1, " snapshots in flight");
  for (std::int32_t i = 0; i < job.world_size; ++i) {
    const base::Rank rank(i);
    StagingSlot& slot = job.staging.at(rank);
    if (slot.buffers.size() != fewest) continue;
    slot.buffers.emplace_back();
    Do(AllocateStaging{{}, key, rank, slot.bytes, slot.numa_node, fewest}, std::exchange(reason, {}));
  }
}

// Its pages are there. Without them the rank goes on with the buffers that it has.
void Core::AddBuffer(StagingSlot& slot, const StagingAllocated& event) {
  if (event.buffer + 1 != slot.buffers.size() || slot.buffers.back().allocated) return;  // of a slot that was replaced
  if (event.error) return slot.buffers.pop_back();
  slot.buffers.back().allocated = true;
}

// When a run begins, and nobody is attached: it may never need them, and its ranks may be others.
void Core::DropUnusedBuffers(const JobKey& key) {
  Job& job = state_.jobs.at(key);
  for (auto& [rank, slot] : job.staging) {
    std::size_t kept = 1;
    if (job.memory && slot.Holds(job.memory->id, job.memory->buffer)) kept = job.memory->buffer + 1;
    if (slot.buffers.size() <= kept) continue;
    Do(FreeStaging{key, rank, kept});
    slot.buffers.resize(kept);
  }
}

}  // namespace belay::checkpoint::commit
