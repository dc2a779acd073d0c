// Files of every released version still load, and this version still writes version 1 byte for byte.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "checkpoint/format/manifest.h"
#include "checkpoint/format/shard_file.h"
#include "tests/checkpoint/format/sample_checkpoint.h"

namespace belay::checkpoint {
namespace {

std::map<std::string, std::string> KeptFiles(const std::string& version) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(BELAY_TEST_DATA) + "/" + version)) {
    std::ifstream in(entry.path(), std::ios::binary);
    files[entry.path().filename()] = std::string(std::istreambuf_iterator<char>(in), {});
  }
  return files;
}

TEST(CompatibilityTest, Version1LoadsAndEncodesByteForByte) {
  const auto files = KeptFiles("v1");
  const auto manifest = DecodeManifest(files.at("manifest.json"));
  ASSERT_TRUE(manifest) << manifest.error().Text();
  EXPECT_EQ(EncodeManifest(*manifest), files.at("manifest.json"));
  EXPECT_EQ(manifest->digest, "2f3688b65a4bba954dd3b6100d3c04ad24e85ffbd85c5892a72c052b379cde79");
  ASSERT_EQ(manifest->files.size(), 6U);
  for (const ManifestFile& file : manifest->files) {
    SCOPED_TRACE(file.name);
    const std::string& bytes = files.at(file.name);
    ASSERT_EQ(bytes.size(), file.bytes);
    if (file.kind == "records") {
      EXPECT_EQ(Sha256Hex(bytes), file.header_sha256);
      const auto records = DecodeRecords(bytes);
      ASSERT_TRUE(records) << records.error().Text();
      EXPECT_EQ(EncodeRecords(*records), bytes);
      EXPECT_EQ(records->at("rng.cpu"), std::string("\x00\x01\xFF", 3));
      continue;
    }
    const auto all = std::as_bytes(std::span(bytes));
    const auto header = DecodeShardHeader(all);
    ASSERT_TRUE(header) << header.error().Text();
    EXPECT_EQ(header->plan.FileBytes(), bytes.size());
    EXPECT_EQ(header->plan.header_bytes, file.header_bytes);
    EXPECT_EQ(header->identity.rank, file.rank);
    const auto data = all.subspan(header->plan.header_bytes);
    EXPECT_EQ(DigestChunks(data), header->digests);
    EXPECT_EQ(Sha256Hex(header->digests), file.data_sha256);
    EXPECT_EQ(Sha256Hex(all.first(header->plan.header_bytes)), file.header_sha256);
    const auto again = EncodeShardHeader(header->plan, header->identity, header->digests);
    ASSERT_TRUE(again) << again.error().Text();
    EXPECT_TRUE(*again == bytes.substr(0, header->plan.header_bytes));
  }
}

TEST(CompatibilityTest, Version1LayoutsLoadAndEncodeByteForByte) {
  const auto files = KeptFiles("v1");
  const auto manifest = DecodeManifest(files.at("manifest.json"));
  ASSERT_TRUE(manifest);
  for (const auto& [rank, fingerprint] : manifest->layout_fingerprints) {
    const std::string& text = files.at("rank-0000" + std::to_string(rank.value()) + ".layout");
    const auto layout = DecodeLayout(text);
    ASSERT_TRUE(layout) << layout.error().Text();
    EXPECT_EQ(EncodeLayout(*layout), text);
    EXPECT_EQ(LayoutFingerprint(*layout), fingerprint);
  }
}

// The same state gives the same deal, the same plan and the same bytes: a change here is a new version of the format,
// or breaks ranks of different builds that deal with each other.
TEST(CompatibilityTest, TheSampleIsStillWrittenAsVersion1) {
  const auto kept = KeptFiles("v1");
  for (const auto& [name, bytes] : test::SampleCheckpoint()) {
    EXPECT_TRUE(kept.at(name) == bytes) << name << " is written differently now";
  }
}

}  // namespace
}  // namespace belay::checkpoint
