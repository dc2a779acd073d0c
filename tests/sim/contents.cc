#include "tests/sim/contents.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "checkpoint/format/boxes.h"
#include "runtime/base/check.h"
#include "runtime/base/rng.h"

namespace belay::checkpoint::sim {

namespace {

std::uint64_t Mixed(std::uint64_t seed, std::string_view text) {
  for (const char c : text) seed = base::Mix64(seed ^ static_cast<unsigned char>(c));
  return seed;
}

Box BoxOf(const TensorKind& tensor, int rank, int world) {
  Box box = WholeBox(tensor.shape);
  if (tensor.sharded) {
    box.offsets[0] = tensor.shape[0] * rank / world;
    box.lengths[0] = tensor.shape[0] * (rank + 1) / world - box.offsets[0];
  }
  return box;
}

RankLayout LayoutOf(int rank, int world) {
  RankLayout layout{base::Rank(rank), {{"frozen", {}}, {"model", {}}}};
  for (const TensorKind& tensor : TensorKinds()) {
    layout.parts[tensor.part == "frozen" ? 0 : 1].tensors.push_back(
        {tensor.name, DType::kU8, tensor.shape, BoxOf(tensor, rank, world)});
  }
  return layout;
}

struct Planned {
  std::vector<ShardPlan> plans;
  std::string fingerprint;
};

// Of every rank of a world. The same for all jobs and steps, so made once.
const std::vector<Planned>& PlannedWorld(int world) {
  static std::map<int, std::vector<Planned>> known;
  std::vector<Planned>& ranks = known[world];
  if (!ranks.empty()) return ranks;
  std::vector<RankLayout> layouts;
  for (int rank = 0; rank < world; ++rank) layouts.push_back(LayoutOf(rank, world));
  const auto deal = Deal(layouts);
  BELAY_CHECK(deal.has_value(), "the simulation's layouts cannot be dealt");
  for (std::size_t rank = 0; rank < layouts.size(); ++rank) {
    auto plans = PlanShards(layouts[rank], (*deal)[rank]);
    BELAY_CHECK(plans.has_value(), "the simulation's shards cannot be planned");
    ranks.push_back({*std::move(plans), LayoutFingerprint(layouts[rank])});
  }
  return ranks;
}

}  // namespace

const std::vector<TensorKind>& TensorKinds() {
  static const std::vector<TensorKind> kinds = {{"model", "weight", {6, 1024}, false, false},
                                                {"model", "moments", {9, 700}, true, false},
                                                {"frozen", "base", {3, 512}, false, true}};
  return kinds;
}

std::vector<std::byte> GlobalBytes(const TensorKind& tensor, const commit::JobKey& job,
                                   const commit::CheckpointId& id) {
  std::uint64_t seed = Mixed(Mixed(1, job.job), tensor.FullName());
  if (!tensor.frozen) {
    seed = base::Mix64(base::Mix64(seed ^ id.generation.value()) ^ static_cast<std::uint64_t>(id.step.value()));
  }
  std::vector<std::byte> bytes(ElementCount(tensor.shape));
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    const std::uint64_t word = base::Mix64(seed + i);
    std::memcpy(bytes.data() + i, &word, std::min<std::size_t>(8, bytes.size() - i));
  }
  return bytes;
}

Records RecordsOf(const commit::JobKey& job, const commit::CheckpointId& id, int rank) {
  return {{"rng", base::Str(job, " ", id, " ", rank)}};
}

RankState::RankState(commit::JobKey job, int rank, int world) : job_(std::move(job)), rank_(rank), world_(world) {
  const Planned& planned = PlannedWorld(world)[static_cast<std::size_t>(rank)];
  plans_ = planned.plans;
  fingerprint_ = planned.fingerprint;
  std::map<std::string, std::size_t> places;
  for (const TensorKind& tensor : TensorKinds()) {
    places[tensor.FullName()] = buffers_.size();
    buffers_.emplace_back(ElementCount(tensor.shape));
  }
  std::vector<std::vector<Source>> sources;
  for (const ShardPlan& plan : plans_) {
    auto& list = sources.emplace_back();
    for (const ShardEntry& entry : plan.entries) {
      const std::uint64_t row =
          entry.bytes / static_cast<std::uint64_t>(std::max<std::int64_t>(1, entry.box.lengths[0]));
      const std::uint64_t skipped = row * static_cast<std::uint64_t>(entry.box.offsets[0]);
      list.push_back({buffers_[places.at(entry.name)].data() + skipped, entry.bytes});
    }
  }
  auto staging = PlanStaging(plans_, sources);
  BELAY_CHECK(staging.has_value(), "the simulation's staging cannot be planned");
  staging_ = *std::move(staging);
}

void RankState::Become(const commit::CheckpointId& id) {
  id_ = id;
  for (std::size_t i = 0; i < buffers_.size(); ++i) {
    const std::vector<std::byte> bytes = GlobalBytes(TensorKinds()[i], job_, id);
    std::copy(bytes.begin(), bytes.end(), buffers_[i].begin());  // in place: the plan points at them
  }
}

void RankState::CopyPortion(int portion, std::span<std::byte> staging) const {
  const auto share = [&](int n) { return staging_.copies.size() * static_cast<std::size_t>(n) / kPortions; };
  for (std::size_t i = share(portion); i < share(portion + 1); ++i) {
    const StagedCopy& copy = staging_.copies[i];
    std::memcpy(staging.data() + copy.destination, copy.source, copy.bytes);
  }
}

wire::SealSnapshot RankState::Seal(std::span<std::byte> staging) {
  std::vector<std::vector<ChunkDigest>> digests;
  for (const ShardPlan& plan : plans_) digests.emplace_back(ChunkCount(plan.data_bytes));
  for (const StagedChunk& chunk : staging_.chunks) {
    digests[chunk.file][chunk.chunk] = DigestChunk(staging.subspan(chunk.offset, chunk.bytes));
  }
  const ShardIdentity identity{job_.project, job_.job, id_.step, id_.generation, base::Rank(rank_), world_};
  wire::SealSnapshot seal;
  seal.set_step(id_.step.value());
  for (std::size_t i = 0; i < plans_.size(); ++i) {
    const auto header = EncodeShardHeader(plans_[i], identity, digests[i]);
    BELAY_CHECK(header.has_value(), "the simulation's header cannot be encoded");
    std::memcpy(staging.data() + staging_.file_offsets[i], header->data(), header->size());
    wire::SealedFile& file = *seal.add_files();
    file.set_name(plans_[i].file_name);
    file.set_offset(staging_.file_offsets[i]);
    file.set_bytes(plans_[i].FileBytes());
  }
  seal.set_records(EncodeRecords(RecordsOf(job_, id_, rank_)));
  (*seal.mutable_metrics())["loss"] = static_cast<double>(id_.step.value() % 7);
  seal.set_parent_step(-1);
  return seal;
}

std::string Compare(Restorer& restorer, const commit::JobKey& job, const commit::CheckpointId& id) {
  const Manifest& manifest = restorer.manifest();
  if (manifest.job != job.job || manifest.step != id.step || manifest.generation != id.generation) {
    return base::Str("it is of job ", manifest.job, ", ", CheckpointDirectoryName(manifest.step, manifest.generation));
  }
  if (restorer.tensors().size() != TensorKinds().size()) {
    if (const auto problems = restorer.Problems(); !problems.empty()) return problems.front().Text();
    return base::Str("it has ", restorer.tensors().size(), " tensors");
  }
  std::vector<std::vector<std::byte>> buffers;
  std::vector<Target> targets;
  for (const TensorKind& tensor : TensorKinds()) {
    buffers.emplace_back(ElementCount(tensor.shape));
    targets.push_back({tensor.FullName(), DType::kU8, tensor.shape, WholeBox(tensor.shape), buffers.back().data()});
  }
  if (auto loaded = restorer.Load(targets, 1); !loaded) return loaded.error().Text();
  for (std::size_t i = 0; i < buffers.size(); ++i) {
    if (buffers[i] != GlobalBytes(TensorKinds()[i], job, id)) {
      return base::Str(TensorKinds()[i].FullName(), " loads without an error and has other bytes than were saved");
    }
  }
  for (int rank = 0; rank < manifest.world_size; ++rank) {
    const auto records = restorer.LoadRecords(base::Rank(rank));
    if (!records) return records.error().Text();
    if (*records != RecordsOf(job, id, rank)) return base::Str("rank ", rank, " has the records of another");
  }
  return {};
}

}  // namespace belay::checkpoint::sim
