#include "tests/checkpoint/format/sample_checkpoint.h"

#include <cstring>
#include <span>

#include "checkpoint/format/boxes.h"
#include "checkpoint/format/deal.h"
#include "checkpoint/format/shard_file.h"
#include "runtime/base/check.h"

namespace belay::checkpoint::test {

namespace {

template <typename T>
void Append(std::string& out, T value) {
  char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof(T));
  out.append(bytes, sizeof(T));
}

void AppendElement(std::string& out, DType dtype, std::int64_t i) {
  const auto whole = static_cast<float>(i);
  switch (dtype) {
    case DType::kF64:
      return Append(out, static_cast<double>(i) + 0.5);
    case DType::kF32:
      return Append(out, 0.25F * whole - 3.0F);
    case DType::kBF16: {  // the upper half of a float; exact for small whole numbers
      std::uint32_t bits = 0;
      std::memcpy(&bits, &whole, sizeof(bits));
      return Append(out, static_cast<std::uint16_t>(bits >> 16));
    }
    case DType::kF16:
      return Append(out, static_cast<std::uint16_t>(0x3C00 + i));  // bits; 1.0 and the numbers after it
    case DType::kI64:
      return Append(out, 1'234'567'890'123 + i);
    case DType::kI32:
      return Append(out, static_cast<std::int32_t>(-i));
    case DType::kI16:
      return Append(out, static_cast<std::int16_t>(-i));
    case DType::kI8:
      return Append(out, static_cast<std::int8_t>(-i));
    case DType::kU64:
      return Append(out, ~static_cast<std::uint64_t>(i));
    case DType::kU32:
      return Append(out, ~static_cast<std::uint32_t>(i));
    case DType::kU16:
      return Append(out, static_cast<std::uint16_t>(~i));
    case DType::kU8:
      return Append(out, static_cast<std::uint8_t>(~i));
    case DType::kBool:
      return Append(out, static_cast<std::uint8_t>(i % 2 == 0));
    case DType::kC64:
      Append(out, whole);
      return Append(out, -whole);
    case DType::kC128:
      Append(out, static_cast<double>(i));
      return Append(out, -static_cast<double>(i));
    case DType::kF8E4M3:
    case DType::kF8E5M2:
      return Append(out, static_cast<std::uint8_t>(0x30 + i));  // bits
  }
}

}  // namespace

std::vector<RankLayout> SampleWorld() {
  std::vector<RankLayout> world;
  for (std::int32_t r = 0; r < 2; ++r) {
    const auto whole = [](const char* name, DType dtype, std::vector<std::int64_t> shape) {
      return TensorSpec{name, dtype, shape, WholeBox(shape)};
    };
    const Box rows{{3 * r, 0}, {3, 4}};
    const Box columns = r == 0 ? Box{{0, 0}, {4, 2}} : Box{{0, 2}, {4, 4}};
    PartLayout model{"model",
                     {
                         {"rows.weight", DType::kF32, {6, 4}, rows},
                         {"columns.weight", DType::kF32, {4, 6}, columns},
                         whole("big", DType::kF64, {40, 3}),
                         whole("bf16", DType::kBF16, {8, 2}),
                         whole("f16", DType::kF16, {4}),
                         whole("mask", DType::kBool, {3, 3}),
                         whole("steps", DType::kI64, {}),
                         whole("i32", DType::kI32, {2, 2}),
                         whole("i16", DType::kI16, {2, 2}),
                         whole("i8", DType::kI8, {2, 2}),
                         whole("u64", DType::kU64, {2, 2}),
                         whole("u32", DType::kU32, {2, 2}),
                         whole("u16", DType::kU16, {2, 2}),
                         whole("u8", DType::kU8, {2, 2}),
                         whole("c64", DType::kC64, {3}),
                         whole("c128", DType::kC128, {3}),
                         whole("f8_e4m3", DType::kF8E4M3, {4}),
                         whole("f8_e5m2", DType::kF8E5M2, {4}),
                         whole("empty", DType::kF32, {0, 3}),
                     }};
    if (r == 1) model.tensors.push_back(whole("only.on.rank1", DType::kF32, {5}));
    PartLayout optimizer{"optimizer", {{"rows.weight.exp_avg", DType::kF32, {6, 4}, rows}}};
    world.push_back({base::Rank(r), {std::move(model), std::move(optimizer)}});
  }
  return world;
}

std::string SampleContent(DType dtype, const std::vector<std::int64_t>& shape) {
  std::string content;
  const auto count = static_cast<std::int64_t>(ElementCount(shape));
  for (std::int64_t i = 0; i < count; ++i) AppendElement(content, dtype, i);
  return content;
}

std::map<std::string, std::string> SampleCheckpoint() {
  std::map<std::string, std::string> files;
  const std::vector<RankLayout> world = SampleWorld();
  const auto deal = Deal(world);
  BELAY_CHECK(deal.has_value(), "no deal");
  Manifest manifest;
  manifest.project = "samples";
  manifest.job = "every-kind.of_tensor";
  manifest.step = base::Step(1200);
  manifest.generation = base::Generation(3);
  manifest.world_size = 2;
  manifest.reason = "interval";
  manifest.created = "2026-11-22T11:22:33Z";
  manifest.parent_step = base::Step(1100);
  manifest.metrics = {{"loss", 0.1}, {"grad_norm", 1e300}};
  for (std::size_t r = 0; r < world.size(); ++r) {
    manifest.layout_fingerprints[world[r].rank] = LayoutFingerprint(world[r]);
    const auto plans = PlanShards(world[r], (*deal)[r]);
    BELAY_CHECK(plans.has_value(), "no plan");
    for (const ShardPlan& plan : *plans) {
      std::string data(plan.data_bytes, '\0');
      for (const ShardEntry& entry : plan.entries) {
        const std::string all = SampleContent(entry.dtype, entry.global_shape);
        for (const Run& run : RunsBetween(WholeBox(entry.global_shape), entry.box, DTypeBytes(entry.dtype))) {
          data.replace(entry.data_offset + run.destination, run.bytes, all, run.source, run.bytes);
        }
      }
      const auto digests = DigestChunks(std::as_bytes(std::span(data)));
      const auto header = EncodeShardHeader(
          plan, {manifest.project, manifest.job, manifest.step, manifest.generation, world[r].rank, 2}, digests);
      BELAY_CHECK(header.has_value(), "no header");
      manifest.files.push_back({plan.file_name, plan.FileBytes(), "shard", world[r].rank, plan.header_bytes,
                                Sha256Hex(*header), Sha256Hex(digests)});
      files[plan.file_name] = *header + data;
    }
    const std::string records = EncodeRecords(
        {{"rng.cpu", std::string("\x00\x01\xFF", 3)}, {"sampler", base::Str("{\"rank\":", r, "}")}, {"none", ""}});
    const std::string name = RecordsFileName(world[r].rank);
    manifest.files.push_back({name, records.size(), "records", world[r].rank, 0, Sha256Hex(records), ""});
    files[name] = records;
  }
  files[std::string(kManifestName)] = EncodeManifest(manifest);
  return files;
}

}  // namespace belay::checkpoint::test
