// `belay ckpt du`: sums, hard links, leftovers.
#include "checkpoint/cli/disk_usage.h"

#include "checkpoint/format/marks.h"
#include "tests/checkpoint/cli/cli_harness.h"

namespace belay::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::uint64_t BytesIn(const std::string& folder) {
  std::uint64_t bytes = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) bytes += entry.file_size();
  return bytes;
}

TEST_F(OfflineTest, DuCountsEveryFileOnceAndSaysWhatDeletingFrees) {
  const std::string shared = "/rank-00000.model.safetensors";
  const std::uint64_t shared_bytes = std::filesystem::file_size(Folder(10) + shared);
  std::filesystem::remove(Folder(20) + shared);
  std::filesystem::create_hard_link(Folder(10) + shared, Folder(20) + shared);
  std::ofstream(Folder(10) + "/.pinned");
  std::ofstream(Folder(20) + "/.quarantined") << EncodeQuarantine({"a bad chunk", "2026-01-02T03:04:05Z"});
  const json document = Ckpt({"du", "--json"}).document();
  EXPECT_EQ(document["schema_version"], 1);
  EXPECT_EQ(document["checkpoints"], 3);
  EXPECT_EQ(document["leftovers"], 0);
  EXPECT_EQ(document["quarantined"], 1);
  ASSERT_EQ(document["jobs"].size(), 2U);
  const json& gpt = document["jobs"][0];
  EXPECT_EQ(gpt["job"], "gpt") << "the largest first";
  EXPECT_EQ(gpt["bytes"], BytesIn(Folder(10)) + BytesIn(Folder(20)) - shared_bytes);
  EXPECT_EQ(document["bytes"], gpt["bytes"].get<std::uint64_t>() + document["jobs"][1]["bytes"].get<std::uint64_t>());
  for (const json& one : gpt["checkpoints"]) {
    EXPECT_EQ(one["bytes"], BytesIn(one["directory"]));
    EXPECT_EQ(one["shared_bytes"], shared_bytes);
    EXPECT_EQ(one["unique_bytes"], one["bytes"].get<std::uint64_t>() - shared_bytes);
    EXPECT_EQ(one["pinned"], one["step"] == "10");
    EXPECT_EQ(one["quarantine"], one["step"] == "20" ? json("a bad chunk") : json());
  }
  const json& vision = document["jobs"][1]["checkpoints"][0];
  EXPECT_EQ(vision["shared_bytes"], 0);

  const Ran text = Ckpt({"du"});
  EXPECT_EQ(text.status, 0);
  EXPECT_THAT(text.out, AllOf(HasSubstr("default/gpt"), HasSubstr("2 checkpoints"), HasSubstr("pinned"),
                              HasSubstr("quarantined"), HasSubstr("SHARED"), HasSubstr("free of")));
  const Ran brief = Ckpt({"du", "--by-job", "gpt"});
  EXPECT_THAT(brief.out, testing::Not(HasSubstr("step-")));
  EXPECT_THAT(brief.out, testing::Not(HasSubstr("vision")));
}

TEST_F(OfflineTest, DuNamesLeftoversAndTheFilesOfBelaydItself) {
  std::filesystem::remove(Folder(20) + "/manifest.json");
  std::filesystem::create_directories(scratch_.path() + "/.belayd/index");
  std::ofstream(scratch_.path() + "/.belayd/index/1.sst") << std::string(1000, 'i');
  std::ofstream(scratch_.path() + "/.belayd/belayd.log") << std::string(10, 'l');
  std::filesystem::create_directories(scratch_.path() + "/.runs/default/gpt");
  std::ofstream(scratch_.path() + "/.runs/default/gpt/rank.log") << std::string(100, 'r');
  const json document = Ckpt({"du", "--json"}).document();
  EXPECT_EQ(document["checkpoints"], 2);
  EXPECT_EQ(document["leftovers"], 1);
  EXPECT_EQ(document["leftover_bytes"], BytesIn(Folder(20)));
  EXPECT_EQ(document["index_bytes"], 1000);
  EXPECT_EQ(document["own_bytes"], 10);
  EXPECT_EQ(document["runs_bytes"], 100);
  EXPECT_GT(document["disk_total_bytes"], document["disk_available_bytes"]);
  EXPECT_THAT(Ckpt({"du"}).out, HasSubstr("left over"));
  EXPECT_EQ(Ckpt({"du", "absent"}).status, 66);
  EXPECT_EQ(Ckpt({"du", "../x"}).status, 64);
}

}  // namespace
}  // namespace belay::checkpoint
