#include "checkpoint/format/manifest.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "checkpoint/format/digest.h"
#include "tests/checkpoint/format/sample_checkpoint.h"

namespace belay::checkpoint {
namespace {

using base::Code;

std::string SampleText() { return test::SampleCheckpoint().at("manifest.json"); }

// Changes the text and mends the digest, so that what is tested is not the digest.
std::string Changed(const std::string& from, const std::string& to) {
  std::string text = SampleText();
  const std::size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  text.replace(at, from.size(), to);
  const std::size_t end = text.rfind(",\n \"digest\"");
  text.resize(end);
  return text + ",\n \"digest\": \"" + Sha256Hex(text + "\n}\n") + "\"\n}\n";
}

Code CodeOf(const std::string& text) {
  const auto decoded = DecodeManifest(text);
  return decoded ? Code::kInternal : decoded.error().code;
}

TEST(ManifestTest, ComesBack) {
  const std::string text = SampleText();
  const auto manifest = DecodeManifest(text);
  ASSERT_TRUE(manifest) << manifest.error().Text();
  EXPECT_EQ(manifest->project, "samples");
  EXPECT_EQ(manifest->step, base::Step(1200));
  EXPECT_EQ(manifest->generation, base::Generation(3));
  EXPECT_EQ(manifest->parent_step, base::Step(1100));
  EXPECT_EQ(manifest->metrics.at("loss"), 0.1);
  EXPECT_EQ(manifest->layout_fingerprints.size(), 2U);
  EXPECT_EQ(manifest->files.size(), 6U);
  EXPECT_EQ(manifest->digest.size(), 64U);
  EXPECT_EQ(EncodeManifest(*manifest), text);
}

TEST(ManifestTest, CarriesNumbersThatJsonCannot) {
  Manifest manifest = DecodeManifest(SampleText()).value();
  manifest.parent_step.reset();
  manifest.metrics = {{"nan", std::nan("")},
                      {"more", std::numeric_limits<double>::infinity()},
                      {"less", -std::numeric_limits<double>::infinity()},
                      {"tiny", 5e-324}};
  const auto back = DecodeManifest(EncodeManifest(manifest));
  ASSERT_TRUE(back) << back.error().Text();
  EXPECT_TRUE(std::isnan(back->metrics.at("nan")));
  EXPECT_EQ(back->metrics.at("more"), std::numeric_limits<double>::infinity());
  EXPECT_EQ(back->metrics.at("less"), -std::numeric_limits<double>::infinity());
  EXPECT_EQ(back->metrics.at("tiny"), 5e-324);
  EXPECT_EQ(back->parent_step, std::nullopt);
}

TEST(ManifestTest, CarriesWhereAFileCameFrom) {
  Manifest manifest = DecodeManifest(SampleText()).value();
  for (ManifestFile& file : manifest.files) {
    if (file.kind == "shard") file.origin = StepAndGeneration{base::Step(700), base::Generation(2)};
  }
  const std::string text = EncodeManifest(manifest);
  EXPECT_NE(text.find("\"critical\": [\n  \"origin\"\n ]"), std::string::npos) << "older readers must refuse it";
  const auto back = DecodeManifest(text);
  ASSERT_TRUE(back) << back.error().Text();
  for (const ManifestFile& file : back->files) EXPECT_EQ(file.origin.has_value(), file.kind == "shard");
  EXPECT_EQ(EncodeManifest(*back), text);
}

TEST(ManifestTest, SortsFiles) {
  Manifest manifest = DecodeManifest(SampleText()).value();
  std::swap(manifest.files.front(), manifest.files.back());
  EXPECT_EQ(EncodeManifest(manifest), SampleText());
}

TEST(ManifestTest, NoticesAnyChangedByte) {
  const std::string text = SampleText();
  for (std::size_t i = 0; i < text.size(); ++i) {
    std::string damaged = text;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    EXPECT_FALSE(DecodeManifest(damaged)) << "byte " << i;
  }
  for (std::size_t size = 0; size < text.size(); ++size) {
    EXPECT_EQ(CodeOf(text.substr(0, size)), Code::kCorrupt) << "cut at " << size;
  }
}

TEST(ManifestTest, IgnoresUnknownFields) {
  EXPECT_TRUE(DecodeManifest(Changed("\"project\"", "\"later\": {\"x\": [1]},\n \"project\"")));
}

TEST(ManifestTest, RejectsUnknownCriticalFeature) {
  EXPECT_EQ(CodeOf(Changed("\"critical\": []", "\"critical\": [\"compressed\"]")), Code::kFormatVersion);
  EXPECT_EQ(CodeOf(Changed("\"version\": 1", "\"version\": 2")), Code::kFormatVersion);
}

TEST(ManifestTest, RejectsFieldsOutOfRange) {
  const std::vector<std::pair<std::string, std::string>> changes{
      {"\"step\": 1200", "\"step\": -1"},
      {"\"step\": 1200", "\"step\": 1.5"},
      {"\"step\": 1200", "\"step\": 9223372036854775808"},
      {"\"world_size\": 2", "\"world_size\": 0"},
      {"\"world_size\": 2", "\"world_size\": 1"},  // then rank 1 is outside
      {"\"project\": \"samples\"", "\"project\": \"../etc\""},
      {"\"name\": \"rank-00000.model.safetensors\"", "\"name\": \"a/b\""},
      {"\"name\": \"rank-00000.model.safetensors\"", "\"name\": \"..\""},
      {"\"name\": \"rank-00000.model.safetensors\"", "\"name\": \"manifest.json\""},
      {"\"name\": \"rank-00000.model.safetensors\"", "\"name\": \"rank-00000.optimizer.safetensors\""},  // twice
      {"\"kind\": \"shard\"", "\"kind\": \"other\""},
      {"\"kind\": \"shard\"", "\"kind\": \"records\""},
      {"\"header_sha256\": \"", "\"header_sha256\": \"X"},
      {"\"loss\": 0.1", "\"loss\": \"much\""},
      {"\"layout_fingerprints\": {", "\"layout_fingerprints\": {\n  \"01\": \"\","},
      {"\"critical\": []", "\"critical\": {}"},
      {"\"reason\": ", "\"reason\": \"x\", \"reason\": "},
      {"\"created\": ", "\"made\": "},
  };
  for (const auto& [from, to] : changes) EXPECT_EQ(CodeOf(Changed(from, to)), Code::kCorrupt) << to;
}

TEST(DirectoryNameTest, ComesBack) {
  EXPECT_EQ(CheckpointDirectoryName(base::Step(1200), base::Generation(3)), "step-000001200.gen-3");
  for (const std::int64_t step : {std::int64_t{0}, std::int64_t{1}, std::int64_t{999'999'999},
                                  std::int64_t{1'000'000'000}, std::numeric_limits<std::int64_t>::max()}) {
    const StepAndGeneration both{base::Step(step), base::Generation(~std::uint64_t{0})};
    EXPECT_EQ(ParseCheckpointDirectoryName(CheckpointDirectoryName(both.step, both.generation)), both);
  }
}

TEST(DirectoryNameTest, RefusesOtherSpellings) {
  for (const char* name :
       {"", "step-", "step-1200.gen-3", "step-000001200", "step-000001200.gen-", "step-000001200.gen-03",
        "step-000001200.gen-3x", "step-000001200.gen-3.tmp", "step--00000001.gen-3", "xstep-000001200.gen-3",
        "step-0000012000.gen-3", "step-000001200.gen--3", "step-99999999999999999999.gen-1"}) {
    EXPECT_EQ(ParseCheckpointDirectoryName(name), std::nullopt) << name;
  }
}

TEST(NameTest, AcceptsOnlyPlainNames) {
  for (const char* name : {"a", "A-b_c.d", "0", "-x"}) EXPECT_TRUE(ValidateName("job", name)) << name;
  EXPECT_TRUE(ValidateName("job", std::string(100, 'a')));
  for (const std::string& name :
       {std::string(), std::string("."), std::string(".a"), std::string("a/b"), std::string("a b"),
        std::string("\xC3\xA4"), std::string(101, 'a'), std::string("a\0b", 3)}) {
    const auto status = ValidateName("job", name);
    ASSERT_FALSE(status) << name;
    EXPECT_EQ(status.error().code, Code::kInvalidArgument);
    EXPECT_NE(status.error().message.find("job"), std::string::npos);
  }
}

}  // namespace
}  // namespace belay::checkpoint
