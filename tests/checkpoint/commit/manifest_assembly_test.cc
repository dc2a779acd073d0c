#include "checkpoint/commit/manifest_assembly.h"

#include <gtest/gtest.h>

#include "checkpoint/format/digest.h"

namespace belay::checkpoint::commit {
namespace {

using base::Code;

class ManifestAssemblyTest : public testing::Test {
 protected:
  // Rows [first, first + rows) of an 8 x 4 float tensor.
  static InspectedFile File(int rank, std::int64_t first, std::int64_t rows) {
    InspectedFile file;
    file.manifest = ManifestFile{base::Str("rank-0000", rank, ".model.safetensors"),
                                 4096,
                                 "shard",
                                 base::Rank(rank),
                                 4096,
                                 std::string(64, 'a'),
                                 std::string(64, 'b')};
    file.entries.push_back(
        {"model.w", DType::kF32, {8, 4}, Box{{first, 0}, {rows, 4}}, 0, static_cast<std::uint64_t>(rows) * 16});
    return file;
  }
  static PublishManifest Order(std::vector<InspectedFile> files) {
    PublishManifest order{{"default", "gpt"},
                          {base::Generation(3), base::Step(1200)},
                          static_cast<std::int32_t>(files.size()),
                          "interval",
                          {},
                          false};
    for (std::size_t rank = files.size(); rank-- > 0;) {
      order.ranks.insert(
          order.ranks.begin(),
          {base::Rank(static_cast<std::int32_t>(rank)), "print", {{"loss", 0.5}}, std::nullopt, {files[rank]}});
    }
    return order;
  }
};

TEST_F(ManifestAssemblyTest, ListsFilesByNameWithTheRunsFacts) {
  const auto manifest = AssembleManifest(Order({File(1, 0, 4), File(0, 4, 4)}), "2026-01-01T00:00:00.000Z");
  ASSERT_TRUE(manifest) << manifest.error().Text();
  EXPECT_EQ(manifest->files[0].name, "rank-00000.model.safetensors");
  EXPECT_EQ(manifest->world_size, 2);
  EXPECT_EQ(manifest->metrics.at("loss"), 0.5);
  EXPECT_EQ(manifest->layout_fingerprints.size(), 2U);
  const auto decoded = DecodeManifest(EncodeManifest(*manifest));
  ASSERT_TRUE(decoded) << decoded.error().Text();
  EXPECT_EQ(decoded->step, base::Step(1200));
}

TEST_F(ManifestAssemblyTest, AHoleInATensorIsIncomplete) {
  const auto manifest = AssembleManifest(Order({File(0, 0, 4), File(1, 5, 3)}), "");
  ASSERT_FALSE(manifest);
  EXPECT_EQ(manifest.error().code, Code::kIncomplete);
  EXPECT_NE(manifest.error().Text().find("model.w"), std::string::npos);
}

TEST_F(ManifestAssemblyTest, BytesWrittenTwiceAreRefused) {
  const auto manifest = AssembleManifest(Order({File(0, 0, 5), File(1, 4, 4)}), "");
  ASSERT_FALSE(manifest);
  EXPECT_EQ(manifest.error().code, Code::kIncomplete);
}

TEST_F(ManifestAssemblyTest, RanksMustAgreeOnDtypeAndShape) {
  InspectedFile other = File(1, 4, 4);
  other.entries[0].dtype = DType::kI32;
  const auto manifest = AssembleManifest(Order({File(0, 0, 4), other}), "");
  ASSERT_FALSE(manifest);
  EXPECT_EQ(manifest.error().code, Code::kLayoutMismatch);
}

class InspectShardTest : public testing::Test {
 protected:
  void SetUp() override {
    RankLayout layout{base::Rank(0), {{"model", {{"w", DType::kF32, {8, 4}, WholeBox()}}}}};
    const auto pieces = Deal({layout});
    ASSERT_TRUE(pieces);
    const auto plans = PlanShards(layout, pieces->at(0));
    ASSERT_TRUE(plans);
    plan = plans->at(0);
    order = StartWrite{{"default", "gpt"}, {base::Generation(3), base::Step(7)}, base::Rank(0), 1, {}, nullptr};
    file = SealedFile{plan.file_name, 0, plan.FileBytes()};
  }
  static Box WholeBox() { return {{0, 0}, {8, 4}}; }
  base::Result<InspectedFile> Inspect(const ShardIdentity& identity, std::size_t digests = 1) {
    const auto header = EncodeShardHeader(plan, identity, std::vector<ChunkDigest>(digests));
    if (!header) return tl::unexpected(header.error());
    return InspectShard(order, file, std::as_bytes(std::span(*header)));
  }
  ShardIdentity Right() const { return {"default", "gpt", base::Step(7), base::Generation(3), base::Rank(0), 1}; }

  ShardPlan plan;
  StartWrite order;
  SealedFile file;
};

TEST_F(InspectShardTest, AnUnchangedFileHasTheIdentityOfItsOrigin) {
  file.origin = StepAndGeneration{base::Step(5), base::Generation(2)};
  EXPECT_FALSE(Inspect(Right())) << "its header is of step 7";
  ShardIdentity earlier = Right();
  earlier.step = base::Step(5);
  earlier.generation = base::Generation(2);
  const auto inspected = Inspect(earlier);
  ASSERT_TRUE(inspected) << inspected.error().Text();
  EXPECT_EQ(inspected->manifest.origin, file.origin);
  file.origin.reset();
  EXPECT_FALSE(Inspect(earlier)) << "nobody said that it is an earlier one";
}

TEST_F(InspectShardTest, TheRightHeaderGivesItsManifestLine) {
  const auto inspected = Inspect(Right());
  ASSERT_TRUE(inspected) << inspected.error().Text();
  EXPECT_EQ(inspected->manifest.kind, "shard");
  EXPECT_EQ(inspected->manifest.bytes, plan.FileBytes());
  EXPECT_EQ(inspected->manifest.header_bytes, plan.header_bytes);
  EXPECT_EQ(inspected->manifest.data_sha256, Sha256Hex(std::vector<ChunkDigest>(1)));
  ASSERT_EQ(inspected->entries.size(), 1U);
}

TEST_F(InspectShardTest, AnotherStepJobRankOrGenerationIsRefused) {
  for (int what = 0; what < 5; ++what) {
    ShardIdentity wrong = Right();
    if (what == 0) wrong.step = base::Step(8);
    if (what == 1) wrong.generation = base::Generation(2);
    if (what == 2) wrong.rank = base::Rank(1), wrong.world_size = 2;
    if (what == 3) wrong.job = "other";
    if (what == 4) wrong.world_size = 2;
    const auto inspected = Inspect(wrong);
    ASSERT_FALSE(inspected) << what;
    EXPECT_EQ(inspected.error().code, Code::kCorrupt) << what;
  }
}

TEST_F(InspectShardTest, ASizeThatDoesNotFitIsRefused) {
  file.bytes += 4;
  EXPECT_FALSE(Inspect(Right()));
  file.bytes -= 8;
  EXPECT_FALSE(Inspect(Right()));
}

}  // namespace
}  // namespace belay::checkpoint::commit
