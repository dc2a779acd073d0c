#include "checkpoint/client/staging_plan.h"

#include <algorithm>

#include "checkpoint/client/kept_files.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using base::Fail;
using base::Status;

constexpr std::uint64_t kPageBytes = 4 * base::kKiB;
constexpr std::uint64_t kHugePageBytes = 2 * base::kMiB;

// Appends the copies and chunks of one file whose data section begins at `data_start`.
Status PlanFile(std::size_t file, const ShardPlan& plan, const std::vector<Source>& sources, std::uint64_t data_start,
                StagingPlan& out) {
  if (plan.entries.size() != sources.size()) {
    return Fail(Code::kInvalidArgument, plan.file_name, " has ", plan.entries.size(), " tensors but ", sources.size(),
                " sources");
  }
  std::uint64_t position = 0;  // in the data section
  for (std::size_t i = 0; i < plan.entries.size(); ++i) {
    const ShardEntry& entry = plan.entries[i];
    const Source& source = sources[i];
    if (entry.data_offset != position) {
      return Fail(Code::kInvalidArgument, plan.file_name, ": ", entry.name, " begins at ", entry.data_offset,
                  ", not where the tensor before it ends (", position, ")");
    }
    if (source.bytes != entry.bytes || (source.data == nullptr && entry.bytes > 0)) {
      return Fail(Code::kInvalidArgument, plan.file_name, ": ", entry.name, " needs ", entry.bytes,
                  " bytes, its source has ", source.data == nullptr ? 0 : source.bytes);
    }
    for (std::uint64_t done = 0; done < entry.bytes;) {
      const std::uint64_t chunk = position / kChunkBytes;
      const std::uint64_t size = std::min(entry.bytes - done, (chunk + 1) * kChunkBytes - position);
      if (out.chunks.empty() || out.chunks.back().file != file || out.chunks.back().chunk != chunk) {
        out.chunks.push_back({file, chunk, data_start + position, 0, out.copies.size(), 0});
      }
      out.copies.push_back({source.data + done, data_start + position, size});
      out.chunks.back().bytes += size;
      out.chunks.back().last_copy = out.copies.size() - 1;
      done += size;
      position += size;
    }
  }
  if (position != plan.data_bytes) {
    return Fail(Code::kInvalidArgument, plan.file_name, " has ", plan.data_bytes, " bytes of data but tensors of ",
                position);
  }
  return {};
}

}  // namespace

base::Result<StagingPlan> PlanStaging(const std::vector<ShardPlan>& plans,
                                      const std::vector<std::vector<Source>>& sources) {
  if (plans.size() != sources.size()) {
    return Fail(Code::kInvalidArgument, plans.size(), " files planned but sources for ", sources.size());
  }
  StagingPlan out;
  for (std::size_t file = 0; file < plans.size(); ++file) {
    const std::uint64_t bytes = plans[file].FileBytes();
    const std::uint64_t start = base::AlignUp(out.bytes, bytes >= kHugePageBytes ? kHugePageBytes : kPageBytes);
    out.file_offsets.push_back(start);
    BELAY_TRY(PlanFile(file, plans[file], sources[file], start + plans[file].header_bytes, out));
    out.bytes = start + base::AlignUp(bytes, kPageBytes);
  }
  out.probe_offset = out.bytes;
  std::uint64_t probes = 0;
  for (const StagedChunk& chunk : out.chunks) {
    if (plans[chunk.file].frozen) probes += chunk.last_copy - chunk.first_copy + 1;
  }
  out.bytes += base::AlignUp(probes * kProbeBytes, kPageBytes);
  out.bytes = std::max(out.bytes, kPageBytes);  // a rank that writes nothing but records still attaches
  return out;
}

}  // namespace belay::checkpoint
