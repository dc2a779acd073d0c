// `belay ckpt inspect` on whole, damaged and foreign files.
#include "checkpoint/cli/inspect.h"

#include <algorithm>

#include "runtime/base/rng.h"
#include "tests/checkpoint/cli/cli_harness.h"
#include "tests/checkpoint/format/sample_checkpoint.h"

namespace belay::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

constexpr char kOptimizer[] = "rank-00001.optimizer.safetensors";
constexpr char kModel[] = "rank-00000.model.safetensors";

void Overwrite(const std::string& path, std::uint64_t offset, const std::string& bytes) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(offset));
  file << bytes;
}

std::uint64_t HeaderBytes(const std::string& path) {
  const std::string file = ReadAll(path);
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  return 8 + length;
}

class InspectTest : public testing::Test {
 protected:
  InspectTest() : folder_(WriteSampleCheckpoint(scratch_.path() + "/default/gpt", 10, 2)) {}

  std::string Path(const std::string& name) const { return folder_ + "/" + name; }
  Ran Look(const std::string& path) { return Belay("ckpt", {"inspect", path}); }
  json Document(const std::string& path) { return Belay("ckpt", {"inspect", path, "--json"}).document(); }
  json FileOf(const std::string& name) {
    const json document = Document(folder_);
    for (const json& file : document["files"]) {
      if (file["name"] == name) return file;
    }
    ADD_FAILURE() << name << " is not in the document";
    return {};
  }

  ScratchFolder scratch_;
  const std::string folder_;
};

TEST_F(InspectTest, AWholeFolderIsAllGood) {
  const Ran text = Look(folder_);
  EXPECT_EQ(text.status, 0) << text.out << text.err;
  EXPECT_THAT(text.out, AllOf(HasSubstr("default/gpt"), HasSubstr("step        10, generation 1"), HasSubstr(kModel),
                              HasSubstr("all good"), Not(HasSubstr("damaged"))));
  const json document = Document(folder_ + "/");
  EXPECT_EQ(document["ok"], true);
  EXPECT_EQ(document["schema_version"], 1);
  EXPECT_EQ(document["manifest"]["health"], "good");
  EXPECT_EQ(document["manifest"]["step"], "10");
  EXPECT_EQ(document["files"].size(), 6U);
  EXPECT_EQ(document["readable"].size(), 6U);
  for (const json& file : document["files"]) EXPECT_EQ(file["health"], "good") << file;
}

TEST_F(InspectTest, OneShardShowsItsIdentityAndPieces) {
  const Ran text = Look(Path(kOptimizer));
  EXPECT_EQ(text.status, 0) << text.out;
  EXPECT_THAT(text.out, AllOf(HasSubstr("job default/gpt, step 10, generation 1, rank 1 of 2"),
                              HasSubstr("optimizer.moments"), HasSubstr("F32"), HasSubstr("[1025:2051, 0:700]"),
                              HasSubstr("[2051, 700]"), HasSubstr("as the manifest says")));
  const json file = Document(Path(kOptimizer))["files"][0];
  EXPECT_EQ(file["identity"]["rank"], 1);
  EXPECT_EQ(file["chunks"]["good"], file["chunks"]["count"]);
  const json& tensor = file["tensors"][0];
  EXPECT_EQ(tensor["name"], "optimizer.moments");
  EXPECT_EQ(tensor["offsets"], json({1025, 0}));
  EXPECT_EQ(tensor["shape"], json({1026, 700}));
  EXPECT_EQ(tensor["file_offset"], file["header"]["bytes"]);
}

TEST_F(InspectTest, AShardAloneIsUnprovenButNotBad) {
  const std::string moved = scratch_.path() + "/moved.safetensors";
  std::filesystem::copy_file(Path(kModel), moved);
  const Ran text = Look(moved);
  EXPECT_EQ(text.status, 0) << text.out;
  EXPECT_THAT(text.out, AllOf(HasSubstr("unproven"), HasSubstr("nothing bad found")));
  // Its digests are its own, so damage of the data shows all the same.
  Damage(moved);
  EXPECT_EQ(Look(moved).status, 65);
}

TEST_F(InspectTest, DamagedBytesAreNamedByRangeAndTensorAndTheRestStaysReadable) {
  const std::uint64_t header = HeaderBytes(Path(kModel));
  Overwrite(Path(kModel), header + 100, "?");
  const Ran text = Look(folder_);
  EXPECT_EQ(text.status, 65);
  EXPECT_THAT(text.out, AllOf(HasSubstr(kModel), HasSubstr("do not match their digests"), HasSubstr("model."),
                              HasSubstr("tensors can be read whole; not model.")));
  const json file = FileOf(kModel);
  EXPECT_EQ(file["health"], "damaged");
  EXPECT_EQ(file["header"]["health"], "good");
  EXPECT_EQ(file["chunks"]["damaged"], 1);
  ASSERT_EQ(file["bad"].size(), 1U);
  EXPECT_EQ(file["bad"][0]["begin"], header);
  EXPECT_EQ(file["bad"][0]["end"], std::min<std::uint64_t>(header + kChunkBytes, file["bytes"]));
  const json document = Document(folder_);
  EXPECT_FALSE(document["lost"].empty());
  EXPECT_THAT(document["readable"].dump(), HasSubstr("optimizer.moments"));
}

TEST_F(InspectTest, ATruncatedFileTellsWhatIsGone) {
  const std::string path = Path(kOptimizer);
  const std::uint64_t bytes = std::filesystem::file_size(path);
  std::filesystem::resize_file(path, bytes - 1);
  const Ran text = Look(path);
  EXPECT_EQ(text.status, 65);
  EXPECT_THAT(text.out, AllOf(HasSubstr(base::Str("cut off: ", bytes - 1, " of ", bytes)), HasSubstr("missing")));
  const json file = Document(path)["files"][0];
  EXPECT_EQ(file["chunks"]["missing"], 1);
  EXPECT_EQ(file["bytes_expected"], bytes);
  std::ofstream(path, std::ios::app) << "too much";
  EXPECT_THAT(Look(path).out, HasSubstr("too long"));
}

// One byte of one tensor's entry: what the header says of the others still counts, and digests prove their data.
TEST_F(InspectTest, ADamagedHeaderStillTellsWhatItCan) {
  const std::string path = Path(kOptimizer), text = ReadAll(path), entry = "\"optimizer.mask\":{\"dtype";
  const std::size_t at = text.find(entry);
  ASSERT_NE(at, std::string::npos);
  Overwrite(path, at + entry.size(), "\x01");
  const Ran ran = Look(path);
  EXPECT_EQ(ran.status, 65);
  EXPECT_THAT(ran.out, AllOf(HasSubstr("does not match the manifest"), HasSubstr("optimizer.moments"),
                             HasSubstr("rank 1 of 2")));
  const json file = Document(path)["files"][0];
  EXPECT_EQ(file["header"]["health"], "damaged");
  EXPECT_EQ(file["bad"][0]["begin"], 0);
  EXPECT_EQ(file["bad"].size(), 1U) << "the data is good";
  EXPECT_EQ(file["chunks"]["good"], file["chunks"]["count"]);
  EXPECT_GT(file["chunks"]["count"], 0);
  // The length at the front is damaged too: the end of the JSON tells where the data begins.
  Overwrite(path, 0, "\xff\xff\xff\xff\xff\xff\xff\x7f");
  const json worse = Document(path)["files"][0];
  EXPECT_EQ(worse["header"]["bytes"], file["header"]["bytes"]);
  EXPECT_EQ(worse["chunks"]["good"], file["chunks"]["count"]);
}

TEST_F(InspectTest, AManifestThatWasReformattedIsReadButNotBelieved) {
  const json manifest = json::parse(ReadAll(Path("manifest.json")));
  std::ofstream(Path("manifest.json")) << manifest.dump();
  const json document = Document(folder_);
  EXPECT_EQ(document["exit_status"], 65);
  EXPECT_EQ(document["manifest"]["health"], "damaged");
  EXPECT_EQ(document["manifest"]["job"], "gpt");
  EXPECT_EQ(document["files"].size(), 6U);
  for (const json& file : document["files"]) EXPECT_EQ(file["health"], "good") << file;
  EXPECT_EQ(Look(Path("manifest.json")).status, 65);
}

TEST_F(InspectTest, AManifestThatIsNoJsonStillNamesFiles) {
  std::string text = ReadAll(Path("manifest.json"));
  text[text.find("\"created\"")] = '!';
  std::ofstream(Path("manifest.json")) << text;
  std::filesystem::remove(Path(kModel));
  const json document = Document(folder_);
  EXPECT_EQ(document["exit_status"], 65);
  EXPECT_EQ(document["manifest"], json({{"health", "damaged"}}));
  EXPECT_EQ(document["files"].size(), 6U);
  EXPECT_EQ(FileOf(kModel)["health"], "missing");
  EXPECT_EQ(FileOf(kOptimizer)["health"], "good");
}

TEST_F(InspectTest, AFolderThatWasNeverCommittedIsReadAsFarAsItGoes) {
  std::filesystem::remove(Path("manifest.json"));
  std::ofstream(Path("notes.txt")) << "mine";
  const Ran ran = Look(folder_);
  EXPECT_EQ(ran.status, 65);
  EXPECT_THAT(ran.out, AllOf(HasSubstr("never committed"), HasSubstr(kModel), HasSubstr("also here: notes.txt"),
                             HasSubstr("all 6 tensors can be read")));
}

TEST_F(InspectTest, RecordsAreListedAndHeldAgainstTheManifest) {
  const std::string path = Path("rank-00000.state.json");
  EXPECT_THAT(Look(path).out, AllOf(HasSubstr("sampler, 6 bytes"), HasSubstr("all good")));
  std::string text = ReadAll(path);
  text[text.find("\"sampler\"") + 1] = 'S';
  std::ofstream(path) << text;
  const Ran ran = Look(path);
  EXPECT_EQ(ran.status, 65);
  EXPECT_THAT(ran.out, AllOf(HasSubstr("do not match the manifest's digest"), HasSubstr("Sampler")));
}

TEST_F(InspectTest, WhatIsNotThereOrNotOursHasItsStatus) {
  EXPECT_EQ(Look(folder_ + "/absent").status, 66);
  std::ofstream(scratch_.path() + "/readme") << "hello, this is a text";
  EXPECT_EQ(Look(scratch_.path() + "/readme").status, 65);
  std::ofstream(scratch_.path() + "/empty.safetensors");
  EXPECT_THAT(Look(scratch_.path() + "/empty.safetensors").out, HasSubstr("is empty"));
  EXPECT_EQ(Belay("ckpt", {"inspect"}).status, 64);
}

TEST_F(InspectTest, FilesOfEveryReleasedVersionAreGood) {
  const auto files = test::SampleCheckpoint();
  const std::string folder = scratch_.path() + "/released";
  std::filesystem::create_directories(folder);
  for (const auto& [name, bytes] : files) std::ofstream(folder + "/" + name, std::ios::binary) << bytes;
  const Ran ran = Belay("ckpt", {"inspect", folder, "--tensors"});
  EXPECT_EQ(ran.status, 0) << ran.out;
  EXPECT_THAT(ran.out, AllOf(HasSubstr("C128"), HasSubstr("F8_E4M3"), HasSubstr("all good")));
}

// Every kept input of the fuzzers under every name, and mutations of real files: an answer, never a crash.
TEST_F(InspectTest, GarbageGetsAnAnswer) {
  std::vector<std::string> inputs;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(FUZZ_CORPUS)) {
    if (entry.is_regular_file()) inputs.push_back(ReadAll(entry.path()));
  }
  ASSERT_GT(inputs.size(), 20U);
  inputs.push_back(std::string(200'000, '['));
  inputs.push_back("{\"a\":" + std::string(200'000, '[') + "\"data_offsets\"}");
  const std::string small = scratch_.path() + "/garbage";
  const std::vector<std::string> names = {"x.safetensors", "x.state.json", "manifest.json", "x"};
  std::filesystem::create_directories(small);
  const auto look = [&](const std::string& content) {
    for (const std::string& name : names) {
      std::ofstream(small + "/" + name, std::ios::binary) << content;
      const auto alone = cli::Inspect(base::PosixFileSystem(), small + "/" + name, 1);
      ASSERT_TRUE(alone) << alone.error().Text();
    }
    ASSERT_TRUE(cli::Inspect(base::PosixFileSystem(), small, 1));  // all of them as one folder
  };
  for (const std::string& input : inputs) look(input);

  const std::size_t seeds = inputs.size();
  constexpr std::uint64_t kSeed = 20260102;
  SCOPED_TRACE(base::Str("seed ", kSeed));
  base::Rng rng(kSeed);
  const auto draw = [&](std::size_t below) { return static_cast<std::size_t>(rng.Below(below)); };
  for (int round = 0; round < 1000; ++round) {
    std::string input = inputs[draw(seeds - 2)];
    if (input.empty()) continue;
    for (std::size_t change = 0, changes = 1 + draw(4); change < changes; ++change) {
      input[draw(input.size())] = static_cast<char>(draw(256));
    }
    if (draw(4) == 0) input.resize(draw(input.size()) + 1);
    look(input);
    if (testing::Test::HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace belay::checkpoint
