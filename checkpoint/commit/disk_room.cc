// What the disks have to have room for, before a save begins.
#include <algorithm>
#include <set>

#include "checkpoint/commit/core.h"
#include "checkpoint/spread/placement.h"

namespace belay::checkpoint::commit {

using base::Error;

namespace {

// That this snapshot of the rank has yet to take from the disk, at most.
std::uint64_t BytesToCome(const Snapshot& snapshot, base::Rank rank, const StagingSlot& slot) {
  if (rank.value() >= snapshot.world_size) return 0;
  const auto part = snapshot.parts.find(rank);
  if (part == snapshot.parts.end()) return slot.image_bytes;
  if (part->second.phase != PartPhase::kFilling && part->second.phase != PartPhase::kSealed) return 0;
  std::uint64_t has = 0;  // what is written in waves has its blocks since its first one
  for (const auto& [name, file] : part->second.streamed) has += file.bytes;
  return slot.image_bytes - std::min(has, slot.image_bytes);
}

}  // namespace

// Room on every disk that this save writes to?
base::Status Core::Admit(const JobKey& key, const std::vector<FolderSpace>& space) const {
  std::set<std::uint64_t> asked;
  for (const FolderSpace& folder : space) {
    if (folder.missing) return tl::unexpected<Error>(*folder.missing);
    if (asked.insert(folder.device).second) BELAY_TRY(AdmitSave(DemandOf(key, space, folder.device)));
  }
  return {};
}

DiskDemand Core::DemandOf(const JobKey& key, const std::vector<FolderSpace>& space, std::uint64_t device) const {
  DiskDemand demand;
  const auto first = std::ranges::find(space, device, &FolderSpace::device);
  demand.available_bytes = first->available_bytes;
  if (space.size() > 1) demand.where = first->path;
  // What is kept in reserve belongs to home.
  if (first == space.begin()) demand.reserve_bytes = config_.disk_reserve_bytes;
  const auto goes_here = [&](base::Rank rank) {
    return space[spread::FolderOfRank(rank, space.size())].device == device;
  };
  const Job& job = state_.jobs.at(key);
  std::uint64_t largest = 0;
  for (const auto& [rank, slot] : job.staging) {
    if (rank.value() >= job.world_size) continue;
    if (goes_here(rank)) demand.needed_bytes += slot.image_bytes;
    largest = std::max(largest, slot.image_bytes);
  }
  // Ranks that have not attached yet will need about what the others do.
  for (std::int32_t i = 0; i < job.world_size; ++i) {
    const base::Rank rank(i);
    if (!job.staging.contains(rank) && goes_here(rank)) demand.needed_bytes += largest;
  }
  for (const auto& [other, their] : state_.jobs) {
    for (const auto& [id, snapshot] : their.snapshots) {
      if (snapshot.failure) continue;
      for (const auto& [rank, slot] : their.staging) {
        if (goes_here(rank)) demand.promised_bytes += BytesToCome(snapshot, rank, slot);
      }
    }
  }
  return demand;
}

}  // namespace belay::checkpoint::commit
