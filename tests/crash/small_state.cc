#include "tests/crash/small_state.h"

#include <algorithm>
#include <cstring>

#include "checkpoint/client/restorer.h"
#include "checkpoint/format/boxes.h"
#include "checkpoint/format/deal.h"
#include "checkpoint/format/shard_file.h"
#include "runtime/base/check.h"
#include "runtime/base/rng.h"

namespace belay::crash {

using namespace checkpoint;  // NOLINT: the service's own nouns
using commit::CheckpointId;

namespace {

struct Tensor {
  const char* part;
  const char* name;
  std::int64_t per_rank;
  bool frozen = false;
};
constexpr Tensor kTensors[] = {{"model", "w", 1300}, {"optimizer", "m", 100}, {"base", "f", 150, true}};

// All bytes of a tensor of floats.
std::string BytesOf(const Tensor& tensor, const CheckpointId& id) {
  std::string bytes(static_cast<std::size_t>(tensor.per_rank) * kWorld * 4, '\0');
  const std::uint64_t when = id.generation.value() << 32 ^ static_cast<std::uint64_t>(id.step.value());
  base::Rng rng(base::Mix64(tensor.frozen ? 0 : when) + static_cast<unsigned char>(tensor.name[0]));
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    const std::uint64_t word = rng.Next();
    std::memcpy(bytes.data() + i, &word, std::min<std::size_t>(8, bytes.size() - i));
  }
  return bytes;
}

Records RecordsOf(const CheckpointId& id, std::int32_t rank) { return {{"sampler", base::Str(id, " of rank ", rank)}}; }

}  // namespace

RankLayout SmallLayout(std::int32_t rank, bool frozen) {
  RankLayout layout{base::Rank(rank), {}};
  for (const Tensor& tensor : kTensors) {
    if (tensor.frozen && !frozen) continue;
    const Box box{{tensor.per_rank * rank}, {tensor.per_rank}};
    layout.parts.push_back({tensor.part, {{tensor.name, DType::kF32, {tensor.per_rank * kWorld}, box}}, tensor.frozen});
  }
  return layout;
}

SealedRank SealRank(const commit::JobKey& job, const CheckpointId& id, std::int32_t rank,
                    const std::optional<Frozen>& frozen) {
  std::vector<RankLayout> world;
  for (std::int32_t r = 0; r < kWorld; ++r) world.push_back(SmallLayout(r, frozen.has_value()));
  const auto index = static_cast<std::size_t>(rank);
  const auto deal = Deal(world);
  BELAY_CHECK(deal.has_value(), "no deal");
  const auto plans = PlanShards(world[index], (*deal)[index]);
  BELAY_CHECK(plans.has_value(), "no plan");

  SealedRank sealed;
  sealed.order = {job,    id, base::Rank(rank),
                  kWorld, {}, std::make_shared<std::string>(EncodeRecords(RecordsOf(id, rank)))};
  for (const ShardPlan& plan : *plans) {
    std::string data(plan.data_bytes, '\0');
    for (const ShardEntry& entry : plan.entries) {
      const auto* tensor = std::ranges::find_if(
          kTensors, [&](const Tensor& one) { return entry.name == base::Str(one.part, '.', one.name); });
      const auto begin = static_cast<std::size_t>(entry.box.offsets[0]) * 4;
      data.replace(entry.data_offset, entry.bytes, BytesOf(*tensor, id).substr(begin, entry.bytes));
    }
    const CheckpointId& written = plan.frozen ? frozen->origin : id;
    const ShardIdentity identity{job.project, job.job, written.step, written.generation, base::Rank(rank), kWorld};
    const auto header = EncodeShardHeader(plan, identity, DigestChunks(std::as_bytes(std::span(data))));
    BELAY_CHECK(header.has_value(), "no header");
    commit::SealedFile file{plan.file_name, sealed.staging.size(), plan.FileBytes(), std::nullopt};
    if (written != id) file.origin = StepAndGeneration{written.step, written.generation};
    sealed.order.files.push_back(std::move(file));
    for (const std::string& piece : {*header, data}) {
      const auto bytes = std::as_bytes(std::span(piece));
      sealed.staging.insert(sealed.staging.end(), bytes.begin(), bytes.end());
    }
  }
  return sealed;
}

std::string CompareRestored(base::FileSystem& files, const std::string& directory, const CheckpointId& id,
                            bool frozen) {
  const auto restorer = Restorer::OpenDirectory(files, directory);
  if (!restorer) return restorer.error().Text();
  for (const base::Error& problem : (*restorer)->Problems()) return problem.Text();
  for (const Tensor& tensor : kTensors) {
    if (tensor.frozen && !frozen) continue;
    const std::string wanted = BytesOf(tensor, id);
    std::string got(wanted.size(), '\0');
    const std::vector<std::int64_t> shape = {tensor.per_rank * kWorld};
    const auto loaded = (*restorer)->Load({{base::Str(tensor.part, '.', tensor.name), DType::kF32, shape,
                                            WholeBox(shape), reinterpret_cast<std::byte*>(got.data())}},
                                          1);
    if (!loaded) return loaded.error().Text();
    if (got != wanted) return base::Str(directory, " restores other bytes in ", tensor.name);
  }
  for (std::int32_t rank = 0; rank < kWorld; ++rank) {
    const auto records = (*restorer)->LoadRecords(base::Rank(rank));
    if (!records) return records.error().Text();
    if (*records != RecordsOf(id, rank)) return base::Str(directory, " restores other records of rank ", rank);
  }
  return {};
}

}  // namespace belay::crash
