#include "tests/checkpoint/client/sample_state.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>

namespace belay::checkpoint {
namespace {

void WriteFile(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

}  // namespace

std::string WriteSampleCheckpoint(const std::string& job_folder, std::int64_t step, int world,
                                  std::uint64_t generation) {
  const std::string folder = job_folder + "/" + CheckpointDirectoryName(base::Step(step), base::Generation(generation));
  std::filesystem::create_directories(folder);
  const std::filesystem::path job(job_folder);
  Manifest manifest;
  manifest.project = job.parent_path().filename();
  manifest.job = job.filename();
  manifest.step = base::Step(step);
  manifest.generation = base::Generation(generation);
  manifest.world_size = world;
  manifest.reason = "interval";
  manifest.created = "2026-01-02T03:04:05Z";
  manifest.metrics["loss"] = 1.5;
  for (int rank = 0; rank < world; ++rank) {
    SampleRank state(rank, world);
    state.Become(step);
    manifest.layout_fingerprints[base::Rank(rank)] = state.fingerprint;
    for (std::size_t f = 0; f < state.plans.size(); ++f) {
      const ShardPlan& plan = state.plans[f];
      std::string data;
      for (const Source& source : state.sources[f])
        data.append(reinterpret_cast<const char*>(source.data), source.bytes);
      const auto digests = DigestChunks(std::as_bytes(std::span(data)));
      const ShardIdentity identity{manifest.project,    manifest.job,     manifest.step,
                                   manifest.generation, base::Rank(rank), world};
      const auto header = EncodeShardHeader(plan, identity, digests);
      EXPECT_TRUE(header) << header.error().Text();
      WriteFile(folder + "/" + plan.file_name, *header + data);
      manifest.files.push_back({plan.file_name, plan.FileBytes(), "shard", base::Rank(rank), plan.header_bytes,
                                Sha256Hex(std::string_view(*header)), Sha256Hex(digests)});
    }
    const std::string records = EncodeRecords({{"sampler", "rank " + std::to_string(rank)}});
    WriteFile(folder + "/" + RecordsFileName(base::Rank(rank)), records);
    manifest.files.push_back({RecordsFileName(base::Rank(rank)), records.size(), "records", base::Rank(rank), 0,
                              Sha256Hex(std::string_view(records)), ""});
  }
  std::sort(manifest.files.begin(), manifest.files.end(),
            [](const ManifestFile& a, const ManifestFile& b) { return a.name < b.name; });
  WriteFile(folder + "/manifest.json", EncodeManifest(manifest));
  return folder;
}

}  // namespace belay::checkpoint
