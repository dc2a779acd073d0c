// How far a checkpoint is to be trusted, as `belay ckpt` shows and sets it.
#include "checkpoint/format/trust.h"

#include "runtime/base/process_spawner.h"
#include "tests/checkpoint/cli/cli_harness.h"

namespace belay::checkpoint {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST_F(OfflineTest, ASuspectCheckpointIsShownAsSuchAndIsNotTheLatest) {
  std::ofstream(Folder(20) + "/.trust") << EncodeTrust({TrustState::kSuspect, 2, base::Generation(4), "rank 1 died"},
                                                       "2026-01-02T03:04:05Z");
  std::ofstream(Folder(10) + "/.trust") << EncodeTrust({TrustState::kGood, 0, base::Generation(5), ""},
                                                       "2026-01-02T03:04:05Z");
  const Ran listed = Ckpt({"list", "gpt"});
  EXPECT_EQ(listed.status, 0);
  EXPECT_THAT(listed.out, AllOf(HasSubstr("suspect"), HasSubstr("good")));
  EXPECT_THAT(listed.err, AllOf(HasSubstr("gpt step 20 is suspect: rank 1 died"),
                                HasSubstr("belay ckpt trust gpt 20 good --generation 1"), Not(HasSubstr("step 10"))));
  EXPECT_THAT(Ckpt({"show", "gpt", "20"}).out, HasSubstr("suspect: rank 1 died"));
  const json document = Ckpt({"list", "gpt", "--json"}).document();
  EXPECT_EQ(document["checkpoints"][0]["trust"], "suspect");
  EXPECT_EQ(document["checkpoints"][0]["failed_resumes"], 2);
  EXPECT_EQ(document["checkpoints"][0]["trust_reason"], "rank 1 died");
  EXPECT_EQ(document["checkpoints"][1]["trust"], "good");
  EXPECT_EQ(document["checkpoints"][1]["trust_reason"], json());
  EXPECT_EQ(Ckpt({"show", "gpt", "--json"}).document()["checkpoint"]["step"], "10");
}

TEST_F(OfflineTest, TrustIsSetByHandAndTakenBack) {
  const std::string mark = Folder(20) + "/.trust", socket = scratch_.path() + "/s";
  ASSERT_EQ(Belay("daemon", {"start", "--data-dir", scratch_.path(), "--socket", socket}).status, 0);
  const auto ckpt = [&](std::vector<std::string> words) {
    words.insert(words.end(), {"--socket", socket});
    return Belay("ckpt", std::move(words));
  };
  const Ran set = ckpt({"trust", "gpt", "latest", "suspect", "--reason", "odd losses", "--json"});
  ASSERT_EQ(set.status, 0) << set.err;
  EXPECT_EQ(set.document()["action"], "trusted");
  EXPECT_EQ(set.document()["checkpoint"]["step"], "20");
  EXPECT_EQ(set.document()["checkpoint"]["trust"], "suspect");
  EXPECT_EQ(set.document()["checkpoint"]["trust_reason"], "odd losses");
  EXPECT_TRUE(std::filesystem::exists(mark));
  EXPECT_THAT(ckpt({"list", "gpt"}).out, HasSubstr("suspect"));

  const Ran good = ckpt({"trust", "gpt", "20", "good"});
  ASSERT_EQ(good.status, 0) << good.err;
  EXPECT_THAT(good.out, HasSubstr("is good: it is offered for restoring"));
  ASSERT_EQ(ckpt({"trust", "gpt", "20", "unknown"}).status, 0);
  EXPECT_FALSE(std::filesystem::exists(mark));
  EXPECT_EQ(ckpt({"list", "gpt", "--json"}).document()["checkpoints"][0]["trust"], "unknown");

  EXPECT_EQ(ckpt({"trust", "gpt", "20"}).status, 64);
  const Ran odd = ckpt({"trust", "gpt", "20", "fine"});
  EXPECT_EQ(odd.status, 64);
  EXPECT_THAT(odd.err, HasSubstr("none of good, suspect and unknown"));
  EXPECT_EQ(ckpt({"trust", "gpt", "15", "good"}).status, 66);
  const Ran stopped = Belay("daemon", {"stop", "--socket", socket, "--json"});
  ASSERT_EQ(stopped.status, 0) << stopped.err;
  EXPECT_TRUE(base::PosixProcessSpawner().Wait(stopped.document()["pid"], std::nullopt));
}

}  // namespace
}  // namespace belay::checkpoint
