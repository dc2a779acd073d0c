#include "checkpoint/client/kept_files.h"

#include <algorithm>
#include <cstring>

#include "runtime/base/check.h"
#include "runtime/base/rng.h"

namespace belay::checkpoint {

SaveWork PlanSave(const StagingPlan& plan, std::span<std::byte> staging, const std::vector<bool>& keep,
                  std::uint64_t seed) {
  SaveWork work;
  std::vector<Copier::Copy> probes;
  std::uint64_t next_probe = plan.probe_offset;
  for (const StagedChunk& chunk : plan.chunks) {
    const bool kept = keep.at(chunk.file);
    const std::size_t first = work.copies.size();
    for (std::size_t i = chunk.first_copy; i <= chunk.last_copy; ++i) {
      const StagedCopy& copy = plan.copies[i];
      std::byte* const image = staging.data() + copy.destination;
      if (!kept) {
        work.copies.push_back({copy.source, image, copy.bytes});
        continue;
      }
      if (copy.bytes == 0) continue;
      const std::uint64_t bytes = std::min(copy.bytes, kProbeBytes);
      const std::uint64_t at = base::Mix64(seed ^ base::Mix64(i)) % (copy.bytes - bytes + 1);
      BELAY_CHECK(next_probe + bytes <= staging.size(), "no room for the probe of copy ", i);
      std::byte* const fresh = staging.data() + next_probe;
      probes.push_back({copy.source + at, fresh, bytes});
      work.probes.push_back({chunk.file, image + at, fresh, bytes});
      next_probe += bytes;
    }
    if (kept) continue;
    work.chunks.push_back(chunk);
    work.chunks.back().first_copy = first;
    work.chunks.back().last_copy = work.copies.size() - 1;
  }
  work.copies.insert(work.copies.end(), probes.begin(), probes.end());
  return work;
}

std::optional<std::size_t> FindChanged(const SaveWork& work) {
  for (const SaveWork::Probe& probe : work.probes) {
    if (std::memcmp(probe.kept, probe.fresh, probe.bytes) != 0) return probe.file;
  }
  return std::nullopt;
}

}  // namespace belay::checkpoint
