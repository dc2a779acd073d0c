#include "checkpoint/client/restorer.h"

#include <gmock/gmock.h>

#include <fstream>

#include "runtime/base/file_system.h"
#include "tests/checkpoint/client/sample_state.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using testing::AllOf;
using testing::HasSubstr;

void FlipByte(const std::string& path, std::streamoff offset) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(offset);
  const char byte = static_cast<char>(file.get() ^ 0x10);
  file.seekp(offset);
  file.put(byte);
  ASSERT_TRUE(file.good());
}

class RestorerTest : public testing::Test {
 protected:
  // Written by two ranks.
  std::string folder_ = WriteSampleCheckpoint(scratch_.path() + "/default/gpt", 20, 2);

  std::unique_ptr<Restorer> Open() {
    auto restorer = Restorer::OpenDirectory(base::PosixFileSystem(), folder_);
    EXPECT_TRUE(restorer) << restorer.error().Text();
    return restorer ? std::move(*restorer) : nullptr;
  }
  std::string Shard(const std::string& name) { return folder_ + "/" + name; }

  static inline ScratchFolder scratch_;
  void TearDown() override { std::filesystem::remove_all(folder_); }
};

TEST_F(RestorerTest, LoadsIntoAnyWorldSize) {
  const auto restorer = Open();
  for (const int world : {1, 2, 3}) {
    for (int rank = 0; rank < world; ++rank) {
      SampleRank state(rank, world);
      const auto loaded = restorer->Load(state.Targets(), 3);
      ASSERT_TRUE(loaded) << loaded.error().Text();
      EXPECT_GE(loaded->bytes_read, loaded->bytes_wanted);
      state.ExpectIs(20);
    }
  }
}

TEST_F(RestorerTest, ReadsOnlyTheChunksThatHoldWantedBytes) {
  const auto restorer = Open();
  std::vector<std::byte> row(1024 * 4);
  const auto loaded =
      restorer->Load({{"model.embedding", DType::kF32, {1537, 1024}, Box{{5, 0}, {1, 1024}}, row.data()}}, 4);
  ASSERT_TRUE(loaded) << loaded.error().Text();
  EXPECT_EQ(loaded->bytes_wanted, row.size());
  EXPECT_LE(loaded->bytes_read, kChunkBytes);
}

TEST_F(RestorerTest, KnowsTensorsAndRecords) {
  const auto restorer = Open();
  EXPECT_EQ(restorer->manifest().step, base::Step(20));
  EXPECT_EQ(restorer->tensors().size(), SampleTensors().size());
  EXPECT_EQ(restorer->tensors().at("optimizer.moments").global_shape, (std::vector<std::int64_t>{2051, 700}));
  EXPECT_EQ(restorer->LoadRecords(base::Rank(1))->at("sampler"), "rank 1");
  EXPECT_EQ(restorer->LoadRecords(base::Rank(2)).error().code, Code::kNotFound);
  EXPECT_TRUE(restorer->Verify(4).empty());
}

TEST_F(RestorerTest, RefusesTensorsThatDoNotFit) {
  const auto restorer = Open();
  std::vector<std::byte> memory(1024);
  const auto error = [&](Target target) { return restorer->Load({std::move(target)}, 1).error(); };
  const Box box{{0}, {129}};
  EXPECT_EQ(error({"model.absent", DType::kBF16, {129}, box, memory.data()}).code, Code::kLayoutMismatch);
  EXPECT_EQ(error({"model.bias", DType::kF16, {129}, box, memory.data()}).code, Code::kLayoutMismatch);
  const auto shape = error({"model.bias", DType::kBF16, {130}, Box{{0}, {130}}, memory.data()});
  EXPECT_EQ(shape.code, Code::kLayoutMismatch);
  EXPECT_THAT(shape.Text(), AllOf(HasSubstr("model.bias"), HasSubstr("129"), HasSubstr("130")));
}

TEST_F(RestorerTest, NamesFileTensorAndOffsetOfAFlippedByte) {
  const std::string name = "rank-00001.optimizer.safetensors";
  const auto size = static_cast<std::streamoff>(std::filesystem::file_size(Shard(name)));
  FlipByte(Shard(name), size - 1000);
  const auto restorer = Open();
  EXPECT_TRUE(restorer->Problems().empty());  // the header is well
  const auto errors = restorer->Verify(2);
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_EQ(errors[0].code, Code::kCorrupt);
  EXPECT_THAT(errors[0].Text(), AllOf(HasSubstr(name), HasSubstr("file bytes "), HasSubstr("tensor optimizer.m")));

  SampleRank state(0, 1);
  const auto loaded = restorer->Load(state.Targets(), 2);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, Code::kCorrupt);
  EXPECT_THAT(loaded.error().Text(),
              AllOf(HasSubstr(name), HasSubstr("tensor optimizer.m"), HasSubstr("from its byte")));
}

TEST_F(RestorerTest, AFlippedByteInTheLengthOfAHeaderIsDamageToo) {
  const std::string name = "rank-00001.optimizer.safetensors";
  for (const std::streamoff at : {0, 3, 6, 7}) {
    FlipByte(Shard(name), at);
    const auto problems = Open()->Problems();
    FlipByte(Shard(name), at);
    ASSERT_EQ(problems.size(), 1U) << at;
    EXPECT_EQ(problems[0].code, Code::kCorrupt) << at;
    EXPECT_THAT(problems[0].Text(), AllOf(HasSubstr(name), HasSubstr("header")));
  }
}

TEST_F(RestorerTest, AManifestThatPromisesTooMuchIsRefusedBeforeAnyMemoryIsTaken) {
  const auto text = base::ReadWholeFile(base::PosixFileSystem(), folder_ + "/manifest.json", kManifestBytesMax);
  ASSERT_TRUE(text);
  auto manifest = DecodeManifest(*text);
  ASSERT_TRUE(manifest);
  const std::uint64_t huge = std::uint64_t{1} << 50;
  for (ManifestFile& file : manifest->files) {
    if (file.rank != base::Rank(0)) continue;
    std::filesystem::resize_file(Shard(file.name), std::uint64_t{1} << 40);  // holes: the size alone is no sign
    file.bytes = file.kind == "records" ? std::uint64_t{1} << 40 : huge;
    if (file.kind == "shard") file.header_bytes = huge / 2;
  }
  std::ofstream(folder_ + "/manifest.json") << EncodeManifest(*manifest);
  const auto errors = Open()->Verify(2);
  ASSERT_EQ(errors.size(), 3U);  // of rank 0: two shards and the records
  for (const base::Error& error : errors) {
    EXPECT_EQ(error.code, Code::kCorrupt);
    EXPECT_THAT(error.Text(), AllOf(HasSubstr("rank-00000."), HasSubstr("limit")));
  }
  EXPECT_EQ(Open()->LoadRecords(base::Rank(0)).error().code, Code::kCorrupt);
}

TEST_F(RestorerTest, NamesATruncatedFileAndWhatIsMissing) {
  const std::string name = "rank-00000.optimizer.safetensors";
  const auto size = std::filesystem::file_size(Shard(name));
  std::filesystem::resize_file(Shard(name), size - 5000);
  const auto restorer = Open();
  const auto errors = restorer->Verify(2);
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_EQ(errors[0].code, Code::kIncomplete);
  EXPECT_THAT(errors[0].Text(),
              AllOf(HasSubstr(name), HasSubstr("truncated"), HasSubstr("tensor optimizer.m"), HasSubstr("file bytes")));
  SampleRank state(0, 1);
  const auto loaded = restorer->Load(state.Targets(), 2);
  ASSERT_FALSE(loaded);
  EXPECT_EQ(loaded.error().code, Code::kIncomplete);
  EXPECT_THAT(loaded.error().Text(), AllOf(HasSubstr("optimizer."), HasSubstr(name)));
}

TEST_F(RestorerTest, NamesAMissingShardAndStillLoadsTheRest) {
  const std::string name = "rank-00001.optimizer.safetensors";
  std::filesystem::remove(Shard(name));
  const auto restorer = Open();
  ASSERT_EQ(restorer->Problems().size(), 1U);
  EXPECT_THAT(restorer->Problems()[0].Text(), HasSubstr(name));
  SampleRank all(0, 1);
  const auto loaded = restorer->Load(all.Targets(), 2);
  ASSERT_FALSE(loaded);
  EXPECT_THAT(loaded.error().Text(), AllOf(HasSubstr("optimizer."), HasSubstr(name)));
  EXPECT_EQ(base::Describe(loaded.error().code).exit_status, base::ExitStatus::kBadData);

  std::vector<std::byte> bias(129 * 2);
  EXPECT_TRUE(restorer->Load({{"model.bias", DType::kBF16, {129}, Box{{0}, {129}}, bias.data()}}, 1));
  EXPECT_EQ(bias, GlobalBytes(SampleTensors()[1], 20));
}

TEST_F(RestorerTest, NoticesADamagedHeaderAndDamagedRecords) {
  FlipByte(Shard("rank-00000.model.safetensors"), 100);
  FlipByte(Shard(RecordsFileName(base::Rank(1))), 5);
  const auto restorer = Open();
  const auto errors = restorer->Verify(1);
  ASSERT_EQ(errors.size(), 2U);
  EXPECT_THAT(errors[0].Text(), AllOf(HasSubstr("rank-00000.model.safetensors"), HasSubstr("header")));
  EXPECT_THAT(errors[1].Text(), HasSubstr("rank-00001.state.json"));
  EXPECT_EQ(restorer->LoadRecords(base::Rank(1)).error().code, Code::kCorrupt);
}

TEST_F(RestorerTest, NoticesAFileOfAnotherCheckpoint) {
  const std::string other = WriteSampleCheckpoint(scratch_.path() + "/default/gpt", 21, 2);
  const std::string name = "rank-00000.optimizer.safetensors";
  std::filesystem::copy_file(other + "/" + name, Shard(name), std::filesystem::copy_options::overwrite_existing);
  std::filesystem::remove_all(other);
  const auto errors = Open()->Verify(1);
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_EQ(errors[0].code, Code::kCorrupt);
  EXPECT_THAT(errors[0].Text(), HasSubstr(name));
}

TEST_F(RestorerTest, AFolderWithoutManifestIsNoCheckpoint) {
  std::filesystem::remove(folder_ + "/manifest.json");
  const auto restorer = Restorer::OpenDirectory(base::PosixFileSystem(), folder_);
  ASSERT_FALSE(restorer);
  EXPECT_EQ(restorer.error().code, Code::kNotFound);
  EXPECT_THAT(restorer.error().Text(), HasSubstr("not a committed checkpoint"));
}

TEST_F(RestorerTest, RefusesADamagedManifest) {
  FlipByte(folder_ + "/manifest.json", 60);
  const auto restorer = Restorer::OpenDirectory(base::PosixFileSystem(), folder_);
  ASSERT_FALSE(restorer);
  EXPECT_EQ(restorer.error().code, Code::kCorrupt);
}

}  // namespace
}  // namespace belay::checkpoint
