// The plan is carried out over real bytes: whatever was saved in whatever pieces, any wanted box must come out exactly.
#include "checkpoint/restore/planner.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <set>

#include "checkpoint/format/deal.h"
#include "runtime/base/rng.h"
#include "tests/checkpoint/format/random_layout.h"

namespace belay::checkpoint {
namespace {

using base::Code;

ShardEntry Entry(const std::string& name, std::vector<std::int64_t> shape, Box box, std::uint64_t offset) {
  const std::uint64_t bytes = ElementCount(box) * 4;
  return ShardEntry{name, DType::kF32, std::move(shape), std::move(box), offset, bytes};
}

ShardPlan File(std::vector<ShardEntry> entries) {
  ShardPlan plan;
  plan.header_bytes = 4096;
  for (const ShardEntry& entry : entries) plan.data_bytes += entry.bytes;
  plan.entries = std::move(entries);
  return plan;
}

TEST(PlannerTest, JoinsTwoHalvesFromTwoFiles) {
  const ShardPlan first = File({Entry("model.w", {4, 2}, Box{{0, 0}, {2, 2}}, 0)});
  const ShardPlan second =
      File({Entry("model.a", {3}, Box{{0}, {3}}, 0), Entry("model.w", {4, 2}, Box{{2, 0}, {2, 2}}, 12)});
  const auto reads = PlanReads({&first, &second}, {{"model.w", DType::kF32, {4, 2}, Box{{1, 0}, {2, 2}}}});
  ASSERT_TRUE(reads) << reads.error().Text();
  ASSERT_EQ(reads->size(), 2U);
  EXPECT_EQ((*reads)[0].file, 0U);
  EXPECT_EQ((*reads)[0].file_begin, 4096U);
  EXPECT_EQ((*reads)[0].data_end, 16U);
  ASSERT_EQ((*reads)[0].runs.size(), 1U);
  EXPECT_EQ((*reads)[0].runs[0].run, (checkpoint::Run{8, 0, 8}));
  ASSERT_EQ((*reads)[1].runs.size(), 1U);
  EXPECT_EQ((*reads)[1].runs[0].run, (checkpoint::Run{12, 8, 8}));
}

TEST(PlannerTest, ReadsWholeChunksAndJoinsNeighbours) {
  const std::int64_t elements = static_cast<std::int64_t>(kChunkBytes / 4) * 10 + 7;
  const ShardPlan file = File({Entry("m.w", {elements}, Box{{0}, {elements}}, 0)});
  const std::vector<WantedBox> wanted{{"m.w", DType::kF32, {elements}, Box{{5}, {elements - 6}}}};
  const auto joined = PlanReads({&file}, wanted, 8 * kChunkBytes);
  ASSERT_TRUE(joined);
  ASSERT_EQ(joined->size(), 2U);
  EXPECT_EQ((*joined)[0].bytes(), 8 * kChunkBytes);
  EXPECT_EQ((*joined)[1].data_begin, 8 * kChunkBytes);
  EXPECT_EQ((*joined)[1].data_end, file.data_bytes);
  for (const PlannedRead& read : *joined) {
    for (const TargetRun& run : read.runs) {
      EXPECT_EQ(run.run.source / kChunkBytes, (run.run.source + run.run.bytes - 1) / kChunkBytes);
    }
  }
  const auto single = PlanReads({&file}, wanted);
  ASSERT_TRUE(single);
  EXPECT_EQ(single->size(), 11U);
}

TEST(PlannerTest, LeavesOutChunksThatNobodyWants) {
  const std::int64_t elements = static_cast<std::int64_t>(kChunkBytes / 4) * 4;
  const ShardPlan file = File({Entry("m.w", {elements}, Box{{0}, {elements}}, 0)});
  const auto reads = PlanReads(
      {&file},
      {{"m.w", DType::kF32, {elements}, Box{{0}, {1}}}, {"m.w", DType::kF32, {elements}, Box{{elements - 1}, {1}}}},
      64 * kChunkBytes);
  ASSERT_TRUE(reads);
  ASSERT_EQ(reads->size(), 2U);
  EXPECT_EQ((*reads)[1].data_begin, 3 * kChunkBytes);
}

TEST(PlannerTest, ReadsScalarsAndNothingForEmptyTensors) {
  const ShardPlan file = File({Entry("m.s", {}, Box{}, 0), Entry("m.z", {0, 3}, Box{{0, 0}, {0, 3}}, 4)});
  const auto reads =
      PlanReads({&file}, {{"m.z", DType::kF32, {0, 3}, Box{{0, 0}, {0, 3}}}, {"m.s", DType::kF32, {}, Box{}}});
  ASSERT_TRUE(reads) << reads.error().Text();
  ASSERT_EQ(reads->size(), 1U);
  EXPECT_EQ((*reads)[0].runs[0].target, 1U);
  EXPECT_EQ((*reads)[0].runs[0].run, (checkpoint::Run{0, 0, 4}));
}

TEST(PlannerTest, NamesTheTensorThatIsMissingOrDoubled) {
  const ShardPlan half = File({Entry("m.w", {4}, Box{{0}, {2}}, 0)});
  const ShardPlan all = File({Entry("m.w", {4}, Box{{0}, {4}}, 0)});
  const WantedBox wanted{"m.w", DType::kF32, {4}, Box{{0}, {4}}};
  const auto missing = PlanReads({&half}, {wanted});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Code::kIncomplete);
  EXPECT_NE(missing.error().message.find("m.w"), std::string::npos);
  const auto doubled = PlanReads({&half, &all}, {wanted});
  ASSERT_FALSE(doubled);
  EXPECT_EQ(doubled.error().code, Code::kIncomplete);
}

TEST(PlannerTest, RefusesOtherNamesDtypesShapesAndBoxes) {
  const ShardPlan file = File({Entry("m.w", {4}, Box{{0}, {4}}, 0)});
  const auto code = [&](const WantedBox& wanted) {
    const auto reads = PlanReads({&file}, {wanted});
    return reads ? Code::kInternal : reads.error().code;
  };
  EXPECT_EQ(code({"m.other", DType::kF32, {4}, Box{{0}, {4}}}), Code::kLayoutMismatch);
  EXPECT_EQ(code({"m.w", DType::kF16, {4}, Box{{0}, {4}}}), Code::kLayoutMismatch);
  EXPECT_EQ(code({"m.w", DType::kF32, {2, 2}, Box{{0, 0}, {2, 2}}}), Code::kLayoutMismatch);
  EXPECT_EQ(code({"m.w", DType::kF32, {4}, Box{{1}, {4}}}), Code::kInvalidArgument);
}

// Element i of a tensor has bytes that depend on the tensor and on i, so that any misplaced byte shows.
std::vector<std::byte> Content(std::size_t tensor, std::uint64_t bytes) {
  base::Rng rng(tensor + 1);
  std::vector<std::byte> content(bytes);
  for (std::byte& b : content) b = static_cast<std::byte>(rng.Next());
  return content;
}

void Copy(const Box& from_box, std::span<const std::byte> from, const Box& to_box, std::span<std::byte> to,
          std::uint64_t element_bytes) {
  // Element by element, on purpose without RunsBetween.
  const auto both = Intersect(from_box, to_box);
  if (!both) return;
  std::vector<std::int64_t> at = both->offsets;
  for (std::uint64_t n = ElementCount(*both); n > 0; --n) {
    std::uint64_t source = 0, destination = 0;
    for (std::size_t d = 0; d < at.size(); ++d) {
      source = source * static_cast<std::uint64_t>(from_box.lengths[d]) +
               static_cast<std::uint64_t>(at[d] - from_box.offsets[d]);
      destination = destination * static_cast<std::uint64_t>(to_box.lengths[d]) +
                    static_cast<std::uint64_t>(at[d] - to_box.offsets[d]);
    }
    std::memcpy(to.data() + destination * element_bytes, from.data() + source * element_bytes, element_bytes);
    for (std::size_t d = at.size(); d-- > 0;) {
      if (++at[d] < both->offsets[d] + both->lengths[d]) break;
      at[d] = both->offsets[d];
    }
  }
}

void SaveAndRestore(std::uint64_t seed) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  base::Rng rng(seed);
  const test::RandomWorld world = test::MakeRandomWorld(rng);
  std::map<std::string, std::pair<const TensorSpec*, std::vector<std::byte>>> tensors;
  for (const RankLayout& rank : world.layouts) {
    for (const PartLayout& part : rank.parts) {
      for (const TensorSpec& spec : part.tensors) {
        auto& [known, content] = tensors[part.part + "." + spec.name];
        if (known != nullptr) continue;
        known = &spec;
        content = Content(tensors.size(), ElementCount(spec.global_shape) * DTypeBytes(spec.dtype));
      }
    }
  }
  const auto deal = Deal(world.layouts);
  ASSERT_TRUE(deal) << deal.error().Text();
  std::vector<ShardPlan> plans;
  for (std::size_t r = 0; r < deal->size(); ++r) {
    auto files = PlanShards(world.layouts[r], (*deal)[r]);
    ASSERT_TRUE(files) << files.error().Text();
    for (ShardPlan& plan : *files) plans.push_back(std::move(plan));
  }
  std::vector<const ShardPlan*> saved;
  std::vector<std::vector<std::byte>> data;
  for (const ShardPlan& plan : plans) {
    saved.push_back(&plan);
    std::vector<std::byte>& bytes = data.emplace_back(plan.data_bytes);
    for (const ShardEntry& entry : plan.entries) {
      Copy(WholeBox(entry.global_shape), tensors.at(entry.name).second, entry.box,
           std::span(bytes).subspan(entry.data_offset, entry.bytes), DTypeBytes(entry.dtype));
    }
  }

  std::vector<WantedBox> wanted;
  for (const auto& [name, tensor] : tensors) {
    for (int i = 0; i < 3; ++i) {
      const auto& shape = tensor.first->global_shape;
      wanted.push_back({name, tensor.first->dtype, shape, i == 0 ? WholeBox(shape) : test::RandomBox(rng, shape)});
    }
  }
  const auto reads = PlanReads(saved, wanted);
  ASSERT_TRUE(reads) << reads.error().Text();

  std::vector<std::vector<std::byte>> targets, expected;
  std::vector<std::vector<int>> written;
  for (const WantedBox& want : wanted) {
    const std::uint64_t element_bytes = DTypeBytes(want.dtype);
    targets.emplace_back(ElementCount(want.box) * element_bytes);
    written.emplace_back(targets.back().size());
    Copy(WholeBox(want.global_shape), tensors.at(want.name).second, want.box,
         expected.emplace_back(targets.back().size()), element_bytes);
  }
  for (std::size_t i = 0; i < reads->size(); ++i) {
    const PlannedRead& read = (*reads)[i];
    if (i > 0) {
      const PlannedRead& before = (*reads)[i - 1];
      ASSERT_TRUE(before.file < read.file || (before.file == read.file && before.data_end <= read.data_begin));
    }
    ASSERT_EQ(read.file_begin, plans[read.file].header_bytes + read.data_begin);
    ASSERT_LE(read.data_end, plans[read.file].data_bytes);
    for (const TargetRun& run : read.runs) {
      ASSERT_GE(run.run.source, read.data_begin);
      ASSERT_LE(run.run.source + run.run.bytes, read.data_end);
      ASSERT_LE(run.run.destination + run.run.bytes, targets[run.target].size());
      std::memcpy(targets[run.target].data() + run.run.destination, data[read.file].data() + run.run.source,
                  run.run.bytes);
      for (std::uint64_t b = 0; b < run.run.bytes; ++b) ++written[run.target][run.run.destination + b];
    }
  }
  for (std::size_t t = 0; t < wanted.size(); ++t) {
    ASSERT_EQ(targets[t], expected[t]) << wanted[t].name << BoxText(wanted[t].box);
    for (const int count : written[t]) ASSERT_EQ(count, 1) << wanted[t].name;
  }
}

TEST(PlannerTest, AnySavedDealGivesAnyWantedBoxes) {
  for (const std::uint64_t seed : test::Seeds(300)) {
    SaveAndRestore(seed);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace belay::checkpoint
