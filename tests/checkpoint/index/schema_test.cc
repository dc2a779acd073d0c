#include "checkpoint/index/schema.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/base/sim/memory_index.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::index {
namespace {

using base::Generation;
using base::Step;

commit::CommittedInfo Info(const std::string& reason) {
  commit::CommittedInfo info;
  info.bytes = 123;
  info.created = "2026-01-01T00:00:00.000Z";
  info.reason = reason;
  info.world_size = 4;
  info.pinned = true;
  info.digest = "abc";
  info.metrics = {{"loss", 0.125}};
  info.quarantine = "a bad chunk";
  info.trust = {TrustState::kSuspect, 2, Generation(4), "rank 1 died"};
  return info;
}

TEST(SchemaTest, KeysSortByGenerationThenStep) {
  const commit::JobKey job{"default", "gpt"};
  EXPECT_LT(CheckpointRecordKey(job, {Generation(1), Step(300)}), CheckpointRecordKey(job, {Generation(2), Step(10)}));
  EXPECT_LT(CheckpointRecordKey(job, {Generation(2), Step(9)}), CheckpointRecordKey(job, {Generation(2), Step(256)}));
  EXPECT_TRUE(PreparedRecordKey(job, {Generation(2), Step(9)}, base::Rank(3))
                  .starts_with(PreparedPrefix(job, {Generation(2), Step(9)})));
}

TEST(SchemaTest, ACatalogueComesBackAsItWent) {
  commit::Catalogue catalogue;
  catalogue[{"default", "gpt"}].generation = Generation(7);
  catalogue[{"default", "gpt"}].owner_uid = 1000;
  // Ids whose bytes hold a slash, in a job whose name is another's beginning.
  catalogue[{"default", "gpt"}].checkpoints[{Generation(0x2F2F), Step(0x2F)}] = Info("interval");
  catalogue[{"default", "gpt2"}].checkpoints[{Generation(1), Step(0)}] = Info("final \xC3\xA9 \xFF");
  base::MemoryIndex index;
  const auto batch = ReplaceCatalogue(index, catalogue);
  ASSERT_TRUE(batch);
  ASSERT_TRUE(index.Write(*batch));
  const auto read = ReadCatalogue(index);
  ASSERT_TRUE(read) << read.error().Text();
  ASSERT_EQ(read->size(), 2U);
  EXPECT_EQ(read->at({"default", "gpt"}).generation, Generation(7));
  EXPECT_EQ(read->at({"default", "gpt"}).owner_uid, 1000U);
  const auto& info = read->at({"default", "gpt"}).checkpoints.at({Generation(0x2F2F), Step(0x2F)});
  EXPECT_EQ(info.bytes, 123U);
  EXPECT_EQ(info.metrics.at("loss"), 0.125);
  EXPECT_TRUE(info.pinned);
  EXPECT_EQ(info.quarantine, "a bad chunk");
  EXPECT_EQ(info.trust, (Trust{TrustState::kSuspect, 2, Generation(4), "rank 1 died"}));
  EXPECT_TRUE(ReplaceCatalogue(index, catalogue)->empty()) << "nothing left to change";
}

TEST(SchemaTest, ReplacingDropsWhatIsNotWanted) {
  base::MemoryIndex index;
  const commit::JobKey job{"default", "gpt"};
  base::IndexBatch old;
  old.Put(CheckpointRecordKey(job, {Generation(1), Step(5)}), EncodeCheckpointRecord(Info("")));
  old.Put(PreparedRecordKey(job, {Generation(1), Step(6)}, base::Rank(0)), "{}");
  old.Put(JobRecordKey(job), EncodeJobRecord({Generation(1), 0}));
  ASSERT_TRUE(index.Write(old));
  ASSERT_TRUE(index.Write(*ReplaceCatalogue(index, {})));
  EXPECT_EQ(index.Scan("")->size(), 1U) << "the schema's version";
}

TEST(SchemaTest, TheScrubbersProgressStaysWhateverTheCatalogueSays) {
  base::MemoryIndex index;
  base::IndexBatch batch;
  batch.Put(std::string(kScrubKey), "progress");
  ASSERT_TRUE(index.Write(batch));
  ASSERT_TRUE(index.Write(*ReplaceCatalogue(index, {})));
  EXPECT_EQ(*index.Get(kScrubKey), "progress");
  EXPECT_TRUE(ReadCatalogue(index)->empty());
}

TEST(SchemaTest, ARecordOfAnOlderReleaseIsNeitherQuarantinedNorJudged) {
  const auto decoded = DecodeCheckpointRecord(
      R"({"bytes":1,"created":"","reason":"","world_size":1,"pinned":false,"digest":"","metrics":{}})");
  ASSERT_TRUE(decoded) << decoded.error().Text();
  EXPECT_EQ(decoded->quarantine, "");
  EXPECT_EQ(decoded->trust, Trust());
}

TEST(SchemaTest, MetricsThatAreNotFiniteDoNotSpoilARecord) {
  commit::CommittedInfo info = Info("");
  info.metrics["bad"] = std::nan("");
  const auto decoded = DecodeCheckpointRecord(EncodeCheckpointRecord(info));
  ASSERT_TRUE(decoded) << decoded.error().Text();
  EXPECT_EQ(decoded->metrics.size(), 1U);
}

TEST(SchemaTest, NumbersOutOfRangeAreDamageAndNotOtherNumbers) {
  for (const char* generation : {"-1", "1e23", "2.5", "18446744073709551616", "\"3\"", "null"}) {
    const auto record = DecodeJobRecord(std::string("{\"owner_uid\":1,\"generation\":") + generation + "}");
    ASSERT_FALSE(record) << generation;
    EXPECT_EQ(record.error().code, base::Code::kCorrupt);
  }
  EXPECT_FALSE(DecodeJobRecord(R"({"generation":1,"owner_uid":4294967296})"));
  const auto largest = DecodeJobRecord(R"({"generation":18446744073709551615,"owner_uid":4294967295})");
  ASSERT_TRUE(largest) << largest.error().Text();
  EXPECT_EQ(largest->owner_uid, 4294967295U);
}

TEST(SchemaTest, DamagedRecordsAndNewerSchemasAreErrors) {
  base::MemoryIndex index;
  base::IndexBatch batch;
  batch.Put("c/default/gpt/0123456789abcdef", "{\"bytes\":1}");
  ASSERT_TRUE(index.Write(batch));
  EXPECT_EQ(ReadCatalogue(index).error().code, base::Code::kCorrupt);
  base::IndexBatch newer;
  newer.Put(std::string(kSchemaKey), "2");
  ASSERT_TRUE(index.Write(newer));
  EXPECT_EQ(ReadCatalogue(index).error().code, base::Code::kFormatVersion);
}

DeviceRecord Device() {
  return {1'767'225'600, "0.2.0", {base::kMiB, 32}, {{base::BulkShape(), 11, 24}, {{base::kMiB, 32}, 19, 25}}};
}

TEST(SchemaTest, ADeviceRecordComesBackAsItWent) {
  const auto read = DecodeDeviceRecord(EncodeDeviceRecord(Device()));
  ASSERT_TRUE(read) << read.error().Text();
  EXPECT_EQ(*read, Device());
  EXPECT_NE(DeviceRecordKey(1, "/data"), DeviceRecordKey(2, "/data"));
  EXPECT_NE(DeviceRecordKey(1, "/data"), DeviceRecordKey(1, "/data2"));
}

TEST(SchemaTest, ADeviceRecordThatCannotBeUsedIsRefused) {
  const auto code_of = [](std::string_view text) { return DecodeDeviceRecord(text).error().code; };
  EXPECT_EQ(code_of("nonsense"), base::Code::kCorrupt);
  EXPECT_EQ(code_of("{}"), base::Code::kCorrupt);
  EXPECT_EQ(code_of(R"({"schema":2})"), base::Code::kFormatVersion);
  DeviceRecord odd = Device();
  odd.shape.block_bytes = 3 * base::kMiB;
  EXPECT_EQ(code_of(EncodeDeviceRecord(odd)), base::Code::kCorrupt);
  odd = Device();
  odd.speeds.back().shape.queue_depth = 0;
  EXPECT_EQ(code_of(EncodeDeviceRecord(odd)), base::Code::kCorrupt);
}

TEST(SchemaTest, DeviceRecordsOutliveANewCatalogue) {
  base::MemoryIndex index;
  base::IndexBatch batch;
  batch.Put(DeviceRecordKey(1, "/data"), EncodeDeviceRecord(Device()));
  batch.Put(PreparedRecordKey({"default", "gpt"}, {Generation(1), Step(1)}, base::Rank(0)), "{}");
  ASSERT_TRUE(index.Write(batch));
  const auto replaced = ReplaceCatalogue(index, {});
  ASSERT_TRUE(replaced);
  ASSERT_TRUE(index.Write(*replaced));
  EXPECT_EQ(index.Scan("")->size(), 2U) << "it, and the schema version";
}

}  // namespace
}  // namespace belay::checkpoint::index
