#include "checkpoint/commit/manifest_assembly.h"

#include <algorithm>

#include "checkpoint/format/deal.h"
#include "checkpoint/format/digest.h"

namespace belay::checkpoint::commit {

using base::Code;

namespace {

struct Tensor {
  DType dtype = DType::kF32;
  std::vector<std::int64_t> global_shape;
  std::vector<Box> boxes;
};

}  // namespace

base::Result<Manifest> AssembleManifest(const PublishManifest& order, const std::string& created) {
  Manifest manifest;
  manifest.project = order.job.project;
  manifest.job = order.job.job;
  manifest.step = order.id.step;
  manifest.generation = order.id.generation;
  manifest.world_size = order.world_size;
  manifest.reason = order.reason;
  manifest.created = created;

  std::map<std::string, Tensor> tensors;
  for (const RankContribution& rank : order.ranks) {
    manifest.layout_fingerprints[rank.rank] = rank.layout_fingerprint;
    if (rank.parent_step && !manifest.parent_step) manifest.parent_step = rank.parent_step;
    // Ranks that attach the same metric should agree; the lowest rank's word counts.
    for (const auto& [name, value] : rank.metrics) manifest.metrics.try_emplace(name, value);
    for (const InspectedFile& file : rank.files) {
      manifest.files.push_back(file.manifest);
      for (const ShardEntry& entry : file.entries) {
        const auto [tensor, is_new] = tensors.try_emplace(entry.name, Tensor{entry.dtype, entry.global_shape, {}});
        if (!is_new && (tensor->second.dtype != entry.dtype || tensor->second.global_shape != entry.global_shape)) {
          return base::Fail(Code::kLayoutMismatch, "ranks disagree on the dtype or shape of ", entry.name, " (rank ",
                            rank.rank, " and a lower one)");
        }
        tensor->second.boxes.push_back(entry.box);
      }
    }
  }
  for (const auto& [name, tensor] : tensors) {
    if (auto covered = CheckCoverage(tensor.global_shape, tensor.boxes); !covered) {
      return base::Wrap(covered.error(), "tensor ", name);
    }
  }
  std::sort(manifest.files.begin(), manifest.files.end(),
            [](const ManifestFile& a, const ManifestFile& b) { return a.name < b.name; });
  return manifest;
}

base::Result<InspectedFile> InspectShard(const StartWrite& order, const SealedFile& file,
                                         std::span<const std::byte> header_bytes) {
  auto header = DecodeShardHeader(header_bytes);
  if (!header) return base::Wrap(header.error(), file.name);
  const ShardIdentity& identity = header->identity;
  const StepAndGeneration own{order.id.step, order.id.generation};
  const StepAndGeneration expected = file.origin.value_or(own);
  if (identity.project != order.job.project || identity.job != order.job.job || identity.step != expected.step ||
      identity.generation != expected.generation || identity.rank != order.rank ||
      identity.world_size != order.world_size) {
    return base::Fail(Code::kCorrupt, file.name, " says it is of job ", identity.project, "/", identity.job, ", ",
                      CheckpointDirectoryName(identity.step, identity.generation), ", rank ", identity.rank, " of ",
                      identity.world_size);
  }
  const ShardPlan& plan = header->plan;
  if (plan.header_bytes != header_bytes.size() || plan.header_bytes > file.bytes ||
      plan.data_bytes != file.bytes - plan.header_bytes) {
    return base::Fail(Code::kCorrupt, file.name, " has ", file.bytes, " bytes, its header says ", plan.FileBytes());
  }
  if (header->digests.size() != ChunkCount(plan.data_bytes)) {
    return base::Fail(Code::kCorrupt, file.name, " has ", header->digests.size(), " chunk digests for ",
                      ChunkCount(plan.data_bytes), " chunks");
  }
  InspectedFile inspected;
  inspected.entries = plan.entries;
  inspected.manifest = ManifestFile{file.name,
                                    file.bytes,
                                    "shard",
                                    order.rank,
                                    plan.header_bytes,
                                    Sha256Hex(header_bytes),
                                    Sha256Hex(header->digests),
                                    file.origin};
  return inspected;
}

}  // namespace belay::checkpoint::commit
