// Quarantine as `belay ckpt` shows, sets and lifts it.
#include "checkpoint/format/marks.h"
#include "runtime/base/process_spawner.h"
#include "tests/checkpoint/cli/cli_harness.h"

namespace belay::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST_F(OfflineTest, AQuarantinedCheckpointIsShownAsSuchAndIsNotTheLatest) {
  std::ofstream(Folder(20) + "/.quarantined") << EncodeQuarantine({"a bad chunk", "2026-01-02T03:04:05Z"});
  const Ran listed = Ckpt({"list", "gpt"});
  EXPECT_EQ(listed.status, 0);
  EXPECT_THAT(listed.out, AllOf(HasSubstr("STATE"), HasSubstr("quarantined")));
  EXPECT_THAT(listed.err, HasSubstr("gpt step 20 is quarantined: a bad chunk"));
  EXPECT_THAT(Ckpt({"show", "gpt", "20"}).out, HasSubstr("quarantined a bad chunk"));
  const json document = Ckpt({"list", "gpt", "--json"}).document();
  EXPECT_EQ(document["checkpoints"][0]["quarantine"], "a bad chunk");
  EXPECT_EQ(document["checkpoints"][1]["quarantine"], json());
  EXPECT_EQ(Ckpt({"show", "gpt", "--json"}).document()["checkpoint"]["step"], "10");
}

TEST_F(OfflineTest, QuarantineIsSetLiftedAndLiftedByAGoodVerify) {
  const std::string mark = Folder(20) + "/.quarantined", socket = scratch_.path() + "/s";
  ASSERT_EQ(Belay("daemon", {"start", "--data-dir", scratch_.path(), "--socket", socket}).status, 0);
  const auto ckpt = [&](std::vector<std::string> words) {
    words.insert(words.end(), {"--socket", socket});
    return Belay("ckpt", std::move(words));
  };
  const Ran set = ckpt({"quarantine", "gpt", "20", "--reason", "odd losses", "--json"});
  ASSERT_EQ(set.status, 0) << set.err;
  EXPECT_EQ(set.document()["action"], "quarantined");
  EXPECT_EQ(set.document()["checkpoint"]["quarantine"], "odd losses");
  EXPECT_TRUE(std::filesystem::exists(mark));
  EXPECT_THAT(ckpt({"list", "gpt"}).out, HasSubstr("quarantined"));
  EXPECT_EQ(ckpt({"show", "gpt", "20"}).status, 0) << "who names it may look";
  ASSERT_EQ(ckpt({"unquarantine", "gpt", "20"}).status, 0);
  EXPECT_FALSE(std::filesystem::exists(mark));

  Damage(Folder(20) + "/rank-00001.optimizer.safetensors");
  ASSERT_EQ(ckpt({"quarantine", "gpt", "20"}).status, 0);
  EXPECT_EQ(ckpt({"verify", "gpt", "20"}).status, 65);
  EXPECT_TRUE(std::filesystem::exists(mark)) << "it is bad, so it stays";
  WriteSampleCheckpoint(scratch_.path() + "/default/gpt", 20,
                        2);  // mended from a backup
  const Ran good = ckpt({"verify", "gpt", "20", "--json"});
  EXPECT_EQ(good.status, 0) << good.out;
  EXPECT_EQ(good.document()["checked"][0]["unquarantined"], true);
  EXPECT_FALSE(std::filesystem::exists(mark));
  EXPECT_EQ(ckpt({"verify", "gpt", "20", "--json"}).document()["checked"][0]["unquarantined"], false);
  EXPECT_EQ(ckpt({"quarantine", "gpt"}).status, 64);
  EXPECT_EQ(ckpt({"quarantine", "gpt", "20", "--reason", ""}).status, 64);
  EXPECT_THAT(Belay("daemon", {"status", "--socket", socket}).out, HasSubstr("scrub        "));
  const Ran stopped = Belay("daemon", {"stop", "--socket", socket, "--json"});
  ASSERT_EQ(stopped.status, 0) << stopped.err;
  EXPECT_TRUE(base::PosixProcessSpawner().Wait(stopped.document()["pid"], std::nullopt));
}

}  // namespace
}  // namespace belay::checkpoint
