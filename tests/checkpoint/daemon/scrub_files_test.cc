#include "checkpoint/daemon/scrub_files.h"

#include <thread>

#include "runtime/base/fault/faulty_file_system.h"
#include "runtime/base/fault_points.h"
#include "runtime/base/sim/mem_file_system.h"
#include "tests/checkpoint/format/sample_checkpoint.h"
#include "tests/runtime/base/test_util.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using testing::HasSubstr;

constexpr char kFolder[] = "/data/samples/kept/step-000000042.gen-7";
constexpr char kShard[] = "rank-00001.model.safetensors";

class ScrubFilesTest : public testing::Test {
 protected:
  ScrubFilesTest() {
    EXPECT_OK(base::MakeDirectories(memory_, kFolder));
    for (const auto& [name, bytes] : sample_) Store(name, bytes);
  }
  ~ScrubFilesTest() override { base::DisarmFaults(); }
  void Store(const std::string& name, const std::string& bytes) {
    EXPECT_OK(base::WriteFileDurably(memory_, Path(name), bytes));
  }
  static std::string Path(const std::string& name) { return std::string(kFolder) + "/" + name; }
  std::string Content(const std::string& name) {
    return base::ReadWholeFile(memory_, Path(name), 1 << 20).value_or("");
  }
  void Damage(const std::string& name) {
    std::string bytes = sample_.at(name);
    bytes.back() = static_cast<char>(bytes.back() ^ 1);
    Store(name, bytes);
  }
  ScrubResult ScrubAfter(const std::string& after) { return Scrub(files_, kFolder, {{}, {}, after}, gate_); }
  commit::RepairFile OrderFor(const std::string& name) {
    return {{}, {}, {name, base::Rank(1), 4096, sample_.at(name).size(), nullptr}, sample_.at("manifest.json"), "bad"};
  }
  // The file's image at 4096, as staging memory has it.
  std::vector<std::byte> StagingWith(const std::string& name) {
    std::vector<std::byte> staging(4096);
    const auto image = base::Bytes(sample_.at(name));
    staging.insert(staging.end(), image.begin(), image.end());
    return staging;
  }

  const std::map<std::string, std::string> sample_ = test::SampleCheckpoint();
  base::MemFileSystem memory_;
  base::FaultyFileSystem files_{memory_};
  BackgroundGate gate_{base::SystemClock(), 0};
};

TEST_F(ScrubFilesTest, GoodFilesAreReadOneByOne) {
  std::vector<std::string> read;
  std::string after;
  while (true) {
    const ScrubResult result = ScrubAfter(after);
    ASSERT_FALSE(result.error) << result.error->Text();
    if (result.file.empty()) break;
    EXPECT_EQ(result.bytes, sample_.at(result.file).size());
    read.push_back(after = result.file);
  }
  EXPECT_EQ(read.size(), 6U);
}

TEST_F(ScrubFilesTest, EveryKindOfDamageIsFound) {
  const auto manifest = DecodeManifest(sample_.at("manifest.json"));
  ASSERT_TRUE(manifest);
  for (const ManifestFile& file : manifest->files) {
    SCOPED_TRACE(file.name);
    const std::string path = Path(file.name);
    EXPECT_OK(CheckFile(files_, path, file, gate_));
    Damage(file.name);
    EXPECT_CODE(CheckFile(files_, path, file, gate_), kCorrupt);
    Store(file.name, sample_.at(file.name).substr(0, sample_.at(file.name).size() / 2));
    EXPECT_CODE(CheckFile(files_, path, file, gate_), kIncomplete);
    Store(file.name, sample_.at(file.name) + "more");
    EXPECT_CODE(CheckFile(files_, path, file, gate_), kCorrupt);
    std::string header = sample_.at(file.name);
    header[20] = static_cast<char>(header[20] ^ 1);
    Store(file.name, header);
    EXPECT_CODE(CheckFile(files_, path, file, gate_), kCorrupt);
    EXPECT_OK(memory_.Remove(path));
    EXPECT_CODE(CheckFile(files_, path, file, gate_), kIncomplete);
    Store(file.name, sample_.at(file.name));
  }
}

TEST_F(ScrubFilesTest, ADamagedChunkIsNamedWithItsTensor) {
  Damage(kShard);
  const ScrubResult result = ScrubAfter("rank-00000.state.json");
  EXPECT_EQ(result.file, kShard);
  ASSERT_TRUE(result.error);
  EXPECT_TRUE(IsDamage(*result.error));
  EXPECT_THAT(result.error->Text(), AllOf(HasSubstr(kShard), HasSubstr("file bytes "), HasSubstr("tensor model.")));
}

TEST_F(ScrubFilesTest, ADamagedManifestIsDamageAndARemovedOneIsNot) {
  Store("manifest.json", "{}");
  const ScrubResult damaged = ScrubAfter("");
  EXPECT_EQ(damaged.file, "manifest.json");
  ASSERT_TRUE(damaged.error);
  EXPECT_TRUE(IsDamage(*damaged.error));
  EXPECT_OK(memory_.Remove(Path("manifest.json")));
  EXPECT_FALSE(ScrubAfter("").error) << "retention took it";
}

TEST_F(ScrubFilesTest, AnIoErrorIsNoDamage) {
  files_.Add({.path_contains = kShard, .operation = base::FileOperation::kRead, .code = Code::kIo, .count = 0});
  const ScrubResult result = ScrubAfter("rank-00000.state.json");
  ASSERT_TRUE(result.error);
  EXPECT_EQ(result.error->code, Code::kIo);
  EXPECT_FALSE(IsDamage(*result.error));
}

TEST_F(ScrubFilesTest, AClosedGateGivesUp) {
  gate_.SetPaused(true);
  std::thread closer([this] { gate_.Close(); });
  EXPECT_TRUE(ScrubAfter("").is_given_up);
  closer.join();
}

TEST_F(ScrubFilesTest, ADamagedFileIsWrittenAnewFromMemory) {
  Damage(kShard);
  const auto finished = Repair(files_, kFolder, OrderFor(kShard), StagingWith(kShard), gate_);
  EXPECT_FALSE(finished.error) << finished.error->Text();
  EXPECT_TRUE(Content(kShard) == sample_.at(kShard));
  memory_.Crash();
  EXPECT_TRUE(Content(kShard) == sample_.at(kShard)) << "durably";
  EXPECT_FALSE(base::Exists(memory_, Path(std::string(kShard) + ".tmp")));
}

TEST_F(ScrubFilesTest, RecordsAndTheManifestAreRepairedToo) {
  const std::string records = "rank-00001.state.json";
  Damage(records);
  Damage("manifest.json");
  commit::RepairFile order = OrderFor(records);
  order.file.records = std::make_shared<const std::string>(sample_.at(records));
  EXPECT_FALSE(Repair(files_, kFolder, order, {}, gate_).error);
  EXPECT_EQ(Content(records), sample_.at(records));
  EXPECT_FALSE(Repair(files_, kFolder, OrderFor("manifest.json"), {}, gate_).error);
  EXPECT_EQ(Content("manifest.json"), sample_.at("manifest.json"));
}

TEST_F(ScrubFilesTest, MemoryThatChangedMeanwhileReplacesNothing) {
  Damage(kShard);
  const std::string damaged = Content(kShard);
  auto staging = StagingWith(kShard);
  staging.back() ^= std::byte{2};
  EXPECT_TRUE(Repair(files_, kFolder, OrderFor(kShard), staging, gate_).error);
  EXPECT_TRUE(Repair(files_, kFolder, OrderFor(kShard), std::span(staging).first(5000), gate_).error);
  EXPECT_TRUE(Content(kShard) == damaged);
  EXPECT_FALSE(base::Exists(memory_, Path(std::string(kShard) + ".tmp")));
}

TEST_F(ScrubFilesTest, ARepairThatFailsLeavesNothing) {
  Damage(kShard);
  ASSERT_OK(base::ArmFaults("repair.after_sync=io"));
  EXPECT_TRUE(Repair(files_, kFolder, OrderFor(kShard), StagingWith(kShard), gate_).error);
  EXPECT_FALSE(base::Exists(memory_, Path(std::string(kShard) + ".tmp")));
}

TEST_F(ScrubFilesTest, ARepairDoesNotWaitForTheRateAndStopsWithTheDaemon) {
  Damage(kShard);
  BackgroundGate slow(base::SystemClock(), 1);  // a byte a second
  EXPECT_FALSE(Repair(files_, kFolder, OrderFor(kShard), StagingWith(kShard), slow).error);
  EXPECT_TRUE(Content(kShard) == sample_.at(kShard));
  Damage(kShard);
  slow.Close();
  const auto given_up = Repair(files_, kFolder, OrderFor(kShard), StagingWith(kShard), slow);
  ASSERT_TRUE(given_up.error);
  EXPECT_EQ(given_up.error->code, Code::kCancelled);
  EXPECT_FALSE(base::Exists(memory_, Path(std::string(kShard) + ".tmp")));
}

}  // namespace
}  // namespace belay::checkpoint
