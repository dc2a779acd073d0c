#include "checkpoint/cli/salvage.h"

#include <gtest/gtest.h>

#include "tests/checkpoint/format/sample_checkpoint.h"

namespace belay::checkpoint::cli {
namespace {

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

TEST(SalvageTest, AWholeHeaderGivesWhatTheDecoderGives) {
  for (const auto& [name, file] : test::SampleCheckpoint()) {
    if (!name.ends_with(".optimizer.safetensors")) continue;  // the model part has types that are stored as others
    SCOPED_TRACE(name);
    const auto header = DecodeShardHeader(Bytes(file));
    ASSERT_TRUE(header) << header.error().Text();
    for (const std::uint64_t known : {std::uint64_t{0}, header->plan.header_bytes}) {
      const SalvagedHeader found = SalvageShardHeader(Bytes(file), known);
      EXPECT_EQ(found.header_bytes, header->plan.header_bytes);
      EXPECT_EQ(found.digests, header->digests);
      ASSERT_EQ(found.entries.size(), header->plan.entries.size());
      for (std::size_t i = 0; i < found.entries.size(); ++i) {
        EXPECT_EQ(found.entries[i].name, header->plan.entries[i].name);
        EXPECT_EQ(found.entries[i].box, header->plan.entries[i].box);
        EXPECT_EQ(found.entries[i].global_shape, header->plan.entries[i].global_shape);
        EXPECT_EQ(found.entries[i].data_offset, header->plan.entries[i].data_offset);
      }
      ASSERT_TRUE(found.identity);
      EXPECT_EQ(found.identity->step, header->identity.step);
      EXPECT_EQ(found.identity->rank, header->identity.rank);
    }
  }
}

TEST(SalvageTest, AChangedValueInAManifestIsReadAsItStands) {
  std::string text = test::SampleCheckpoint().at("manifest.json");
  const auto whole = DecodeManifest(text);
  ASSERT_TRUE(whole);
  const std::size_t at = text.find("\"reason\": \"") + 11;
  text[at] = 'X';
  ASSERT_FALSE(DecodeManifest(text));
  const auto found = SalvageManifest(text);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->step, whole->step);
  EXPECT_EQ(found->files.size(), whole->files.size());
  EXPECT_EQ(found->reason.front(), 'X');
  EXPECT_FALSE(SalvageManifest("not JSON"));
  EXPECT_FALSE(SalvageManifest(std::string(100'000, '[')));
}

TEST(SalvageTest, EntriesAreFoundWhereTheTextBreaksOff) {
  const std::string text = test::SampleCheckpoint().at("manifest.json");
  const auto whole = DecodeManifest(text);
  ASSERT_TRUE(whole);
  const std::string cut = text.substr(0, text.rfind("\"name\""));
  const auto files = SalvageManifestFiles(cut);
  ASSERT_EQ(files.size(), whole->files.size() - 1);
  for (std::size_t i = 0; i < files.size(); ++i) {
    EXPECT_EQ(files[i].name, whole->files[i].name);
    EXPECT_EQ(files[i].bytes, whole->files[i].bytes);
    EXPECT_EQ(files[i].header_sha256, whole->files[i].header_sha256);
  }
}

}  // namespace
}  // namespace belay::checkpoint::cli
