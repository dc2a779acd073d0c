#include "checkpoint/client/wave_plan.h"

#include <algorithm>

#include "runtime/base/check.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {
namespace {

constexpr std::uint64_t kPageBytes = 4 * base::kKiB;

}  // namespace

std::uint64_t WindowBytesMin(const StagingPlan& plan, const std::vector<ShardPlan>& plans) {
  std::uint64_t chunk = kPageBytes, headers = 0;
  for (const StagedChunk& one : plan.chunks) chunk = std::max(chunk, base::AlignUp(one.bytes, kPageBytes));
  for (const ShardPlan& one : plans) headers += base::AlignUp(one.header_bytes, kPageBytes);
  return std::max(2 * chunk, headers);
}

WavePlan PlanWaves(const StagingPlan& plan, const std::vector<ShardPlan>& plans, std::uint64_t window_bytes) {
  BELAY_CHECK(window_bytes >= WindowBytesMin(plan, plans), "a window of ", window_bytes, " bytes");
  WavePlan out;
  std::uint64_t headers = 0;
  for (const ShardPlan& one : plans) {
    out.header_offsets.push_back(headers);
    headers += base::AlignUp(one.header_bytes, kPageBytes);
  }
  const std::uint64_t half = window_bytes / 2 / kPageBytes * kPageBytes;
  std::uint64_t used = 0;  // of the wave's half
  for (const StagedChunk& chunk : plan.chunks) {
    const std::uint64_t file_offset = chunk.offset - plan.file_offsets[chunk.file];
    // All but a file's last chunk are whole pages, so what follows in the same file follows here too.
    std::uint64_t place = base::AlignUp(used, kPageBytes);
    if (out.waves.empty() || place + chunk.bytes > half) {
      out.waves.emplace_back();
      place = 0;
    }
    Wave& wave = out.waves.back();
    const std::uint64_t at = (out.waves.size() - 1) % 2 * half + place;
    const bool goes_on = !wave.pieces.empty() && wave.pieces.back().file == chunk.file &&
                         wave.pieces.back().offset + wave.pieces.back().bytes == at;
    if (!goes_on) wave.pieces.push_back({chunk.file, file_offset, at, 0});
    wave.pieces.back().bytes += chunk.bytes;
    StagedChunk moved = chunk;
    moved.offset = at;
    moved.first_copy = wave.copies.size();
    for (std::size_t i = chunk.first_copy; i <= chunk.last_copy; ++i) {
      StagedCopy copy = plan.copies[i];
      copy.destination = at + (copy.destination - chunk.offset);
      wave.copies.push_back(copy);
    }
    moved.last_copy = wave.copies.size() - 1;
    wave.chunks.push_back(moved);
    used = place + chunk.bytes;
  }
  return out;
}

}  // namespace belay::checkpoint
