#include "checkpoint/commit/retention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <random>
#include <set>

namespace belay::checkpoint::commit {
namespace {

RetentionCandidate At(std::int64_t step, std::uint64_t generation = 1) {
  return {{base::Generation(generation), base::Step(step)}, false, false, {}};
}
std::vector<std::int64_t> Steps(const std::vector<CheckpointId>& ids) {
  std::vector<std::int64_t> steps;
  for (const CheckpointId& id : ids) steps.push_back(id.step.value());
  return steps;
}
using StepList = std::vector<std::int64_t>;

TEST(RetentionTest, KeepsTheNewest) {
  EXPECT_EQ(Steps(ChooseDeletions({At(30), At(10), At(20), At(40)}, {.keep_last = 2})), (StepList{10, 20}));
  EXPECT_TRUE(ChooseDeletions({At(10)}, {.keep_last = 0}).empty()) << "never the newest";
  EXPECT_TRUE(ChooseDeletions({}, {}).empty());
}

TEST(RetentionTest, AQuarantinedOneFillsNobodysPlace) {
  const auto bad = [](std::int64_t step) {
    RetentionCandidate candidate = At(step);
    candidate.quarantined = true;
    candidate.metrics["loss"] = 0.0;
    return candidate;
  };
  EXPECT_EQ(Steps(ChooseDeletions({At(10), At(20), bad(30), At(40)}, {.keep_last = 2})), (StepList{10}))
      << "30 stays until two good ones are newer";
  EXPECT_EQ(Steps(ChooseDeletions({At(10), bad(20), At(30), At(40)}, {.keep_last = 2})), (StepList{10, 20}));
  EXPECT_TRUE(ChooseDeletions({bad(10), bad(20)}, {.keep_last = 1}).empty()) << "nothing good is newer";
  EXPECT_EQ(Steps(ChooseDeletions({bad(100), At(110), At(210), At(220)}, {.keep_last = 1, .keep_every = 100})),
            (StepList{100}))
      << "the milestone is the next good one";
  EXPECT_EQ(Steps(ChooseDeletions({bad(10), At(20), At(30)}, {.keep_last = 1, .keep_best = 1})), (StepList{10, 20}));
  RetentionCandidate pinned = bad(10);
  pinned.pinned = true;
  EXPECT_TRUE(ChooseDeletions({pinned, At(20)}, {.keep_last = 1}).empty());
}

TEST(RetentionTest, KeepsEveryNth) {
  EXPECT_EQ(Steps(ChooseDeletions({At(100), At(150), At(200), At(250)}, {.keep_last = 1, .keep_every = 100})),
            (StepList{150}));
}

TEST(RetentionTest, KeepsTheFirstAfterAMultipleThatASaveMissed) {
  // 100 was busy, 200 was given up, and 300 has one before and one after it.
  EXPECT_EQ(Steps(ChooseDeletions({At(50), At(101), At(150), At(250), At(299), At(301), At(350), At(360)},
                                  {.keep_last = 1, .keep_every = 100})),
            (StepList{50, 150, 299, 350}));
}

TEST(RetentionTest, StepZeroIsNoMilestone) {
  EXPECT_EQ(Steps(ChooseDeletions({At(0), At(10), At(100), At(110)}, {.keep_last = 1, .keep_every = 100})),
            (StepList{0, 10}));
}

TEST(RetentionTest, AMilestoneWrittenAgainIsTheNewerGenerations) {
  const std::vector<CheckpointId> expected = {At(200, 1).id, At(310, 1).id};
  EXPECT_EQ(ChooseDeletions({At(100, 1), At(200, 1), At(310, 1), At(200, 2), At(300, 2), At(320, 2)},
                            {.keep_last = 1, .keep_every = 100}),
            expected);
  EXPECT_EQ(ChooseDeletions({At(200, 1), At(201, 2), At(202, 2)}, {.keep_last = 1, .keep_every = 100}),
            std::vector<CheckpointId>{At(201, 2).id})
      << "a later step of a newer generation takes nobody's place";
}

TEST(RetentionTest, KeepsTheBestByEitherDirection) {
  std::vector<RetentionCandidate> all = {At(1), At(2), At(3), At(4)};
  all[0].metrics["loss"] = 0.5;
  all[1].metrics["loss"] = 0.1;
  all[2].metrics["loss"] = std::nan("");
  EXPECT_EQ(Steps(ChooseDeletions(all, {.keep_last = 1, .keep_best = 1, .metric = "loss"})), (StepList{1, 3}));
  EXPECT_EQ(Steps(ChooseDeletions(all, {.keep_last = 1, .keep_best = 1, .metric = "loss", .larger_is_better = true})),
            (StepList{2, 3}));
  EXPECT_EQ(Steps(ChooseDeletions(all, {.keep_last = 1, .keep_best = 9, .metric = "loss"})), (StepList{3}));
}

TEST(RetentionTest, KeepsWhatIsPinnedOrInUse) {
  std::vector<RetentionCandidate> all = {At(1), At(2), At(3), At(4)};
  all[0].pinned = true;
  all[1].in_use = true;
  EXPECT_EQ(Steps(ChooseDeletions(all, {.keep_last = 1})), (StepList{3}));
}

TEST(RetentionTest, PropertiesHoldForRandomHistories) {
  const char* given = std::getenv("BELAY_TEST_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
  SCOPED_TRACE(testing::Message() << "BELAY_TEST_SEED=" << seed);
  std::mt19937_64 random(seed);
  for (int round = 0; round < 2000; ++round) {
    std::vector<RetentionCandidate> all;
    std::set<CheckpointId> ids;
    for (std::uint64_t i = 0, n = random() % 12; i < n; ++i) {
      RetentionCandidate one = At(static_cast<std::int64_t>(random() % 20), 1 + random() % 3);
      if (!ids.insert(one.id).second) continue;
      one.pinned = random() % 5 == 0;
      one.in_use = random() % 7 == 0;
      if (random() % 2 == 0) one.metrics["loss"] = static_cast<double>(random() % 5);
      all.push_back(one);
    }
    const Retention policy{static_cast<std::uint32_t>(random() % 4), static_cast<std::uint32_t>(random() % 6),
                           static_cast<std::uint32_t>(random() % 3), "loss", random() % 2 == 0};
    const auto deletions = ChooseDeletions(all, policy);
    const std::set<CheckpointId> deleted(deletions.begin(), deletions.end());
    ASSERT_EQ(deleted.size(), deletions.size());
    for (const CheckpointId& id : deletions) ASSERT_TRUE(ids.contains(id));
    for (const auto& one : all) {
      if (one.pinned || one.in_use) {
        ASSERT_FALSE(deleted.contains(one.id));
      }
    }
    if (!all.empty()) {
      ASSERT_FALSE(deleted.contains(*ids.rbegin())) << "the newest";
    }
    for (std::uint32_t multiple = policy.keep_every; multiple > 0 && multiple < 24; multiple += policy.keep_every) {
      // Whoever looks for the milestone finds the step that would have been found had nothing been deleted.
      std::int64_t first = -1;
      std::int64_t first_left = -1;
      for (const auto& one : all) {
        const std::int64_t step = one.id.step.value();
        if (step < multiple) continue;
        if (first < 0 || step < first) first = step;
        if (!deleted.contains(one.id) && (first_left < 0 || step < first_left)) first_left = step;
      }
      ASSERT_EQ(first_left, first) << "at or after " << multiple;
    }
    ASSERT_GE(all.size() - deleted.size(), std::min<std::size_t>(all.size(), std::max(1U, policy.keep_last)));
    // Asked again about what is left, it deletes nothing more.
    std::erase_if(all, [&](const RetentionCandidate& one) { return deleted.contains(one.id); });
    ASSERT_TRUE(ChooseDeletions(all, policy).empty());
  }
}

}  // namespace
}  // namespace belay::checkpoint::commit
