#include "checkpoint/client/kept_files.h"

#include <gtest/gtest.h>

#include <cstring>

namespace belay::checkpoint {
namespace {

// A changing file of one tensor and a frozen one of three (one of them longer than a chunk, one empty), in memory.
struct Files {
  Files() : base(3, std::vector<std::byte>()) {
    base[0].resize(5'000'000, std::byte{1});
    base[1].resize(7, std::byte{2});
    const RankLayout layout{base::Rank(0),
                            {{"model", {{"adapter", DType::kU8, {100}, Box{{0}, {100}}}}},
                             {"model",
                              {{"a", DType::kU8, {5'000'000}, Box{{0}, {5'000'000}}},
                               {"b", DType::kU8, {7}, Box{{0}, {7}}},
                               {"c", DType::kU8, {0}, Box{{0}, {0}}}},
                              true}}};
    const auto deal = Deal({layout});
    const auto plans = PlanShards(layout, deal.value()[0]).value();
    EXPECT_EQ(plans.size(), 2U);
    plan = PlanStaging(plans, {{{adapter.data(), 100}},
                               {{base[0].data(), 5'000'000}, {base[1].data(), 7}, {base[2].data(), 0}}})
               .value();
    staging.resize(plan.bytes);
    Carry(PlanSave(plan, staging, {false, false}, 1));
  }
  static void Carry(const SaveWork& work) {
    for (const Copier::Copy& copy : work.copies) {
      if (copy.bytes > 0) std::memcpy(copy.destination, copy.source, copy.bytes);
    }
  }
  std::vector<std::byte> adapter = std::vector<std::byte>(100, std::byte{9});
  std::vector<std::vector<std::byte>> base;
  StagingPlan plan;
  std::vector<std::byte> staging;
};

TEST(KeptFilesTest, AKeptFileIsOnlyProbed) {
  Files files;
  const SaveWork work = PlanSave(files.plan, files.staging, {false, true}, 7);
  ASSERT_EQ(work.chunks.size(), 1U);
  EXPECT_EQ(work.chunks[0].file, 0U);
  EXPECT_EQ(work.probes.size(), 3U);  // two pieces of the large tensor, cut at the chunk, and the small one
  std::uint64_t bytes = 0;
  for (const Copier::Copy& copy : work.copies) {
    bytes += copy.bytes;
    EXPECT_LE(copy.destination + copy.bytes, files.staging.data() + files.staging.size());
  }
  EXPECT_EQ(bytes, 100U + 64 + 64 + 7);
  Files::Carry(work);
  EXPECT_FALSE(FindChanged(work));
}

TEST(KeptFilesTest, AnUpdateOfAWholeTensorIsFoundWhereverTheProbesLie) {
  for (const std::size_t tensor : {0, 1}) {
    Files files;
    for (std::byte& byte : files.base[tensor]) byte ^= std::byte{4};
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
      const SaveWork work = PlanSave(files.plan, files.staging, {false, true}, seed);
      Files::Carry(work);
      EXPECT_EQ(FindChanged(work), 1U) << "tensor " << tensor << ", seed " << seed;
    }
  }
}

TEST(KeptFilesTest, ProbesWanderSoThatAPatchIsFoundInTime) {
  Files files;
  std::fill_n(files.base[0].begin() + 1'000'000, 200'000, std::byte{8});
  bool found = false;
  for (std::uint64_t seed = 0; seed < 200 && !found; ++seed) {
    const SaveWork work = PlanSave(files.plan, files.staging, {false, true}, seed);
    Files::Carry(work);
    found = FindChanged(work).has_value();
  }
  EXPECT_TRUE(found);
}

TEST(KeptFilesTest, WithoutFrozenFilesThereIsNoRoomForProbes) {
  Files files;
  EXPECT_GT(files.plan.bytes, files.plan.probe_offset);
  const RankLayout layout{base::Rank(0), {{"model", {{"adapter", DType::kU8, {100}, Box{{0}, {100}}}}}}};
  const auto deal = Deal({layout});
  const auto plan = PlanStaging(PlanShards(layout, deal.value()[0]).value(), {{{files.adapter.data(), 100}}}).value();
  EXPECT_EQ(plan.bytes, plan.probe_offset);
}

}  // namespace
}  // namespace belay::checkpoint
