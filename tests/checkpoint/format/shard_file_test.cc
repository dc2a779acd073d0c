#include "checkpoint/format/shard_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

#include "checkpoint/format/boxes.h"
#include "tests/checkpoint/format/random_layout.h"
#include "tests/checkpoint/format/sample_checkpoint.h"

namespace belay::checkpoint {
namespace {

using base::Code;

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

std::string WithLength(const std::string& json) {
  std::string file;
  for (unsigned shift = 0; shift < 64; shift += 8) file += static_cast<char>(json.size() >> shift & 255);
  return file + json;
}

Code CodeOf(const std::string& file) {
  const auto header = DecodeShardHeader(Bytes(file));
  return header ? Code::kInternal : header.error().code;
}

std::string SampleShard() { return test::SampleCheckpoint().at("rank-00001.model.safetensors"); }

// The sample's header with one thing changed; the padding takes up the difference.
std::string Changed(const std::string& from, const std::string& to) {
  std::string file = SampleShard();
  const std::size_t at = file.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  const std::string json = file.substr(8, ShardHeaderBytes(Bytes(file)).value() - 8);
  return WithLength(std::string(json).replace(at - 8, from.size(), to));
}

TEST(ShardFileTest, PlansInTheOrderOfTheReferenceWriter) {
  const auto world = test::SampleWorld();
  const auto deal = Deal(world);
  ASSERT_TRUE(deal);
  const auto plans = PlanShards(world[1], (*deal)[1]);
  ASSERT_TRUE(plans);
  ASSERT_EQ(plans->size(), 2U);
  EXPECT_EQ((*plans)[0].file_name, "rank-00001.model.safetensors");
  EXPECT_EQ((*plans)[1].file_name, "rank-00001.optimizer.safetensors");
  for (const ShardPlan& plan : *plans) {
    EXPECT_EQ(plan.header_bytes % 4096, 0U);
    std::uint64_t end = 0;
    for (std::size_t i = 0; i < plan.entries.size(); ++i) {
      EXPECT_EQ(plan.entries[i].data_offset, end);
      EXPECT_EQ(plan.entries[i].data_offset % DTypeBytes(plan.entries[i].dtype), 0U)
          << "an element would be misaligned";
      end += plan.entries[i].bytes;
      if (i > 0) {
        const auto key = [](const ShardEntry& e) { return std::pair(~DTypeBytes(e.dtype), e.name); };
        EXPECT_LT(key(plan.entries[i - 1]), key(plan.entries[i]));
      }
    }
    EXPECT_EQ(end, plan.data_bytes);
  }
}

TEST(ShardFileTest, PartsWithoutPiecesGiveNoFile) {
  const auto plans = PlanShards(test::SampleWorld()[0], {Piece{1, 0, Box{{0, 0}, {3, 4}}}});
  ASSERT_TRUE(plans);
  ASSERT_EQ(plans->size(), 1U);
  EXPECT_EQ((*plans)[0].file_name, "rank-00000.optimizer.safetensors");
  EXPECT_TRUE(PlanShards(test::SampleWorld()[0], {})->empty());
}

TEST(ShardFileTest, FrozenTensorsHaveAFileOfTheirOwn) {
  const RankLayout layout{base::Rank(3),
                          {{"model", {{"adapter", DType::kF32, {4}, WholeBox({4})}}},
                           {"model", {{"base", DType::kF32, {8}, WholeBox({8})}}, true}}};
  const auto deal = Deal({layout});
  ASSERT_TRUE(deal) << deal.error().Text();
  const auto plans = PlanShards(layout, (*deal)[0]);
  ASSERT_TRUE(plans) << plans.error().Text();
  ASSERT_EQ(plans->size(), 2U);
  EXPECT_EQ((*plans)[0].file_name, "rank-00003.model.safetensors");
  EXPECT_FALSE((*plans)[0].frozen);
  EXPECT_EQ((*plans)[1].file_name, "rank-00003.model-frozen.safetensors");
  EXPECT_TRUE((*plans)[1].frozen);
  EXPECT_EQ((*plans)[1].entries[0].name, "model.base") << "readers see one part";
}

TEST(ShardFileTest, RefusesPiecesThatAreNotOfTheLayout) {
  const auto world = test::SampleWorld();
  const auto code = [&](const std::vector<Piece>& pieces) {
    const auto plans = PlanShards(world[0], pieces);
    return plans ? Code::kInternal : plans.error().code;
  };
  EXPECT_EQ(code({Piece{7, 0, Box{}}}), Code::kInvalidArgument);
  EXPECT_EQ(code({Piece{0, 99, Box{}}}), Code::kInvalidArgument);
  EXPECT_EQ(code({Piece{1, 0, Box{{3, 0}, {3, 4}}}}), Code::kInvalidArgument);  // rank 1's rows
  EXPECT_EQ(code({Piece{1, 0, Box{{0, 0}, {1, 4}}}, Piece{1, 0, Box{{1, 0}, {1, 4}}}}), Code::kInvalidArgument);
}

TEST(ShardFileTest, HeaderHasItsPlannedSizeForAnyIdentity) {
  const auto plans = PlanShards(test::SampleWorld()[0], {Piece{1, 0, Box{{0, 0}, {3, 4}}}});
  const ShardPlan& plan = plans->front();
  const auto digests = DigestChunks(std::vector<std::byte>(plan.data_bytes));
  const ShardIdentity longest{std::string(100, 'p'),
                              std::string(100, 'j'),
                              base::Step(std::numeric_limits<std::int64_t>::max()),
                              base::Generation(~std::uint64_t{0}),
                              base::Rank(std::numeric_limits<std::int32_t>::max() - 1),
                              std::numeric_limits<std::int32_t>::max()};
  for (const ShardIdentity& identity : {ShardIdentity{"p", "j", {}, {}, {}, 1}, longest}) {
    const auto header = EncodeShardHeader(plan, identity, digests);
    ASSERT_TRUE(header) << header.error().Text();
    EXPECT_EQ(header->size(), plan.header_bytes);
    EXPECT_EQ(ShardHeaderBytes(Bytes(*header)).value(), plan.header_bytes);
    const auto decoded = DecodeShardHeader(Bytes(*header));
    ASSERT_TRUE(decoded) << decoded.error().Text();
    EXPECT_EQ(decoded->identity.project, identity.project);
    EXPECT_EQ(decoded->identity.step, identity.step);
    EXPECT_EQ(decoded->identity.generation, identity.generation);
  }
}

TEST(ShardFileTest, RefusesToEncodeAWrongIdentityOrDigestCount) {
  const ShardPlan plan = PlanShards(test::SampleWorld()[0], {Piece{1, 0, Box{{0, 0}, {3, 4}}}})->front();
  const auto digests = DigestChunks(std::vector<std::byte>(plan.data_bytes));
  const auto code = [&](const ShardIdentity& identity, const std::vector<ChunkDigest>& list) {
    const auto header = EncodeShardHeader(plan, identity, list);
    return header ? Code::kInternal : header.error().code;
  };
  EXPECT_EQ(code({"p", "j", {}, {}, {}, 1}, {}), Code::kInvalidArgument);
  EXPECT_EQ(code({"", "j", {}, {}, {}, 1}, digests), Code::kInvalidArgument);
  EXPECT_EQ(code({"p", "j", {}, {}, base::Rank(1), 1}, digests), Code::kInvalidArgument);
}

TEST(ShardFileTest, RandomHeadersComeBackAndEncodeAlike) {
  for (const std::uint64_t seed : test::Seeds(150)) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    base::Rng rng(seed);
    const auto world = test::MakeRandomWorld(rng).layouts;
    const auto deal = Deal(world);
    ASSERT_TRUE(deal);
    for (std::size_t r = 0; r < world.size(); ++r) {
      const auto plans = PlanShards(world[r], (*deal)[r]);
      ASSERT_TRUE(plans);
      for (const ShardPlan& plan : *plans) {
        const ShardIdentity identity{"p", "j", base::Step(7), base::Generation(9), world[r].rank, 6};
        const auto header = EncodeShardHeader(plan, identity, DigestChunks(std::vector<std::byte>(plan.data_bytes)));
        ASSERT_TRUE(header) << header.error().Text();
        const auto decoded = DecodeShardHeader(Bytes(*header));
        ASSERT_TRUE(decoded) << decoded.error().Text();
        ASSERT_EQ(decoded->plan.entries.size(), plan.entries.size());
        for (std::size_t i = 0; i < plan.entries.size(); ++i) {
          const ShardEntry &a = plan.entries[i], &b = decoded->plan.entries[i];
          ASSERT_EQ(std::tie(a.name, a.dtype, a.global_shape, a.box.offsets, a.box.lengths, a.data_offset, a.bytes),
                    std::tie(b.name, b.dtype, b.global_shape, b.box.offsets, b.box.lengths, b.data_offset, b.bytes));
        }
        const auto again = EncodeShardHeader(decoded->plan, decoded->identity, decoded->digests);
        ASSERT_TRUE(again);
        ASSERT_EQ(*again, *header);
      }
    }
  }
}

TEST(ShardFileTest, ReadsAPlainFile) {
  const auto header = DecodeShardHeader(Bytes(WithLength(
      R"({"b":{"dtype":"F8_E4M3","shape":[2,1],"data_offsets":[4,6]},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
      R"("__metadata__":{"format":"pt"}}   )")));
  ASSERT_TRUE(header) << header.error().Text();
  ASSERT_EQ(header->plan.entries.size(), 2U);
  EXPECT_EQ(header->plan.entries[0].name, "a");
  EXPECT_EQ(header->plan.entries[1].dtype, DType::kF8E4M3);
  EXPECT_EQ(header->plan.entries[1].box, WholeBox({2, 1}));
  EXPECT_EQ(header->plan.data_bytes, 6U);
  EXPECT_TRUE(header->digests.empty());
  EXPECT_TRUE(header->identity.job.empty());
  EXPECT_TRUE(DecodeShardHeader(Bytes(WithLength("{}"))));
}

TEST(ShardFileTest, RefusesHoleOverlapOverflowAndDuplicates) {
  const auto tensor = [](const std::string& name, const std::string& shape, const std::string& offsets) {
    return "\"" + name + "\":{\"dtype\":\"U8\",\"shape\":[" + shape + "],\"data_offsets\":[" + offsets + "]}";
  };
  const auto code = [&](const std::string& tensors) { return CodeOf(WithLength("{" + tensors + "}")); };
  EXPECT_EQ(code(tensor("a", "4", "0,4") + "," + tensor("b", "4", "4,8")), Code::kInternal);  // the good one
  EXPECT_EQ(code(tensor("a", "4", "0,4") + "," + tensor("b", "4", "5,9")), Code::kCorrupt);
  EXPECT_EQ(code(tensor("a", "4", "0,4") + "," + tensor("b", "4", "3,7")), Code::kCorrupt);
  EXPECT_EQ(code(tensor("a", "4", "1,5")), Code::kCorrupt);
  EXPECT_EQ(code(tensor("a", "4", "4,0")), Code::kCorrupt);
  EXPECT_EQ(code(tensor("a", "5", "0,4")), Code::kCorrupt);
  EXPECT_EQ(code(tensor("a", "-4", "0,4")), Code::kCorrupt);
  EXPECT_EQ(code(tensor("a", "4.0", "0,4")), Code::kCorrupt);
  EXPECT_EQ(code(tensor("a", "4294967296,4294967296", "0,0")), Code::kCorrupt);
  EXPECT_EQ(code(tensor("a", "18446744073709551615", "0,18446744073709551615")), Code::kCorrupt);
  EXPECT_EQ(code(tensor("a", "4", "0,4") + "," + tensor("a", "4", "4,8")), Code::kCorrupt);
  EXPECT_EQ(code(R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"more":1})"), Code::kCorrupt);
  EXPECT_EQ(code(R"("a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]})"), Code::kFormatVersion);
  EXPECT_EQ(code(R"("a":7)"), Code::kCorrupt);
  EXPECT_EQ(code(R"("__metadata__":{"x":1})"), Code::kCorrupt);
}

TEST(ShardFileTest, RefusesBadLengths) {
  EXPECT_EQ(CodeOf(""), Code::kCorrupt);
  EXPECT_EQ(CodeOf(std::string(7, '\0')), Code::kCorrupt);
  EXPECT_EQ(CodeOf(std::string(8, '\0')), Code::kCorrupt);
  EXPECT_EQ(CodeOf(std::string(8, '\xFF')), Code::kLimitExceeded);
  EXPECT_EQ(CodeOf(WithLength("{}").substr(0, 9)), Code::kCorrupt);
  EXPECT_EQ(CodeOf(WithLength(" {}")), Code::kCorrupt);
  const std::string limit("\x00\xE1\xF5\x05\x00\x00\x00\x00", 8);  // 100,000,000
  EXPECT_EQ(ShardHeaderBytes(Bytes(limit)).value(), kShardHeaderBytesMax + 8);
}

TEST(ShardFileTest, RefusesDamageInOurOwnEntries) {
  ASSERT_EQ(CodeOf(SampleShard()), Code::kInternal);
  const std::vector<std::pair<std::string, std::string>> corrupt{
      {"\\\"world_size\\\":2", "\\\"world_size\\\":1"},
      {"\\\"job\\\":\\\"every", "\\\"job\\\":\\\".very"},
      {"\"belay.digests\":\"", "\"belay.digests\":\"00"},
      {"\"belay.digests\":\"", "\"belay.digests\":\"00000000000000000000000000000000"},
      {"\"belay.digests\"", "\"belay.digest\""},
      {"\"belay.identity\"", "\"belay.identiti\""},
      {"\"belay.global_shapes\":\"{", "\"belay.global_shapes\":\"{\\\"model.nobody\\\":[1],"},
      {"\"DCP_SHARDING_INFO\":\"{", "\"DCP_SHARDING_INFO\":\"{\\\"model.nobody\\\":{\\\"saved_offsets\\\":[0]},"},
      {"{\\\"saved_offsets\\\":[3,0]}", "{\\\"saved_offsets\\\":[4,0]}"},
      {"{\\\"saved_offsets\\\":[3,0]}", "{\\\"saved_offsets\\\":[3]}"},
      {"{\\\"saved_offsets\\\":[3,0]}", "{}"},
  };
  for (const auto& [from, to] : corrupt) EXPECT_EQ(CodeOf(Changed(from, to)), Code::kCorrupt) << to;
  EXPECT_EQ(CodeOf(Changed("\"belay.version\":\"1\"", "\"belay.version\":\"2\"")), Code::kFormatVersion);
  EXPECT_EQ(CodeOf(Changed("\"belay.version\":\"1\",", "")), Code::kFormatVersion);  // somebody else's shards
  EXPECT_EQ(CodeOf(Changed("\"belay.chunk_bytes\":\"4194304\"", "\"belay.chunk_bytes\":\"8388608\"")),
            Code::kFormatVersion);
  EXPECT_EQ(CodeOf(Changed("{\"format\":\"pt\",", "{\"format\":\"pt\",\"later\":\"x\",")), Code::kInternal);  // ignored
}

TEST(ShardFileTest, NeverCrashesOnCutOrFlippedHeaders) {
  const std::string file = SampleShard();
  const std::uint64_t header_bytes = ShardHeaderBytes(Bytes(file)).value();
  for (std::uint64_t size = 0; size < header_bytes; size += 13)
    EXPECT_FALSE(DecodeShardHeader(Bytes(file).first(size)));
  for (std::uint64_t i = 0; i < header_bytes; ++i) {
    std::string flipped = file.substr(0, header_bytes);
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << (i % 8)));
    if (const auto header = DecodeShardHeader(Bytes(flipped))) {
      for (const ShardEntry& entry : header->plan.entries) {
        ASSERT_TRUE(ValidateExtent(entry.dtype, entry.global_shape, entry.box));
      }
    }
  }
}

}  // namespace
}  // namespace belay::checkpoint
