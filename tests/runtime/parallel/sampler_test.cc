#include "belay/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "belay/error.h"

namespace belay {
namespace {

// The indices of one step in the order of positions: rank 0's first, rank 1's first, ...
std::vector<std::int64_t> Interleave(std::vector<PermutationSampler>& ranks) {
  std::vector<std::vector<std::int64_t>> batches;
  for (auto& sampler : ranks) batches.push_back(sampler.next());
  std::vector<std::int64_t> order;
  for (std::size_t i = 0; i < batches[0].size(); ++i) {
    for (const auto& batch : batches) order.push_back(batch[i]);
  }
  return order;
}

std::vector<PermutationSampler> Ranks(std::int64_t size, std::int64_t batch, std::uint64_t seed, int world) {
  std::vector<PermutationSampler> ranks;
  for (int rank = 0; rank < world; ++rank) ranks.emplace_back(size, batch, seed, rank, world);
  return ranks;
}

TEST(PermutationTest, IsABijectionForEverySize) {
  std::vector<std::int64_t> sizes(130);
  std::iota(sizes.begin(), sizes.end(), 1);
  sizes.insert(sizes.end(), {255, 256, 257, 1023, 1024, 1025, 60000});
  for (const std::int64_t size : sizes) {
    std::vector<bool> seen(size, false);
    for (std::int64_t i = 0; i < size; ++i) {
      const std::int64_t to = PermutationSampler::permute(42, 3, i, size);
      ASSERT_TRUE(to >= 0 && to < size && !seen[to]) << "size " << size << " position " << i;
      seen[to] = true;
    }
  }
}

TEST(PermutationTest, WorksForHugeDataSets) {
  const std::int64_t size = (std::int64_t{1} << 40) + 12345;
  std::set<std::int64_t> seen;
  for (std::int64_t i = 0; i < 10000; ++i) {
    const std::int64_t to = PermutationSampler::permute(1, 0, size - 1 - i, size);
    ASSERT_TRUE(to >= 0 && to < size && seen.insert(to).second);
  }
}

// What a seed means is part of every checkpoint: these numbers never change.
TEST(PermutationTest, MeansTheSameForever) {
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < 10; ++i) order.push_back(PermutationSampler::permute(7, 1, i, 10));
  EXPECT_EQ(order, (std::vector<std::int64_t>{9, 7, 8, 4, 3, 0, 2, 6, 5, 1}));
}

TEST(PermutationTest, MixesWell) {
  // Neighbours land apart, and seeds and epochs are told apart: of 1000 positions about one stays where it was.
  for (const auto& [seed, epoch] : {std::pair{0U, 0}, std::pair{0U, 1}, std::pair{1U, 0}}) {
    int fixed = 0;
    int neighbours = 0;
    std::int64_t before = -10;
    for (std::int64_t i = 0; i < 1000; ++i) {
      const std::int64_t to = PermutationSampler::permute(seed, epoch, i, 1000);
      fixed += to == i ? 1 : 0;
      neighbours += std::abs(to - before) == 1 ? 1 : 0;
      before = to;
    }
    EXPECT_LT(fixed, 10);
    EXPECT_LT(neighbours, 15);
  }
  int same = 0;
  for (std::int64_t i = 0; i < 1000; ++i) {
    same += PermutationSampler::permute(0, 0, i, 1000) == PermutationSampler::permute(0, 1, i, 1000) ? 1 : 0;
  }
  EXPECT_LT(same, 10);
}

TEST(PermutationSamplerTest, DrawsEachSampleOnceAnEpochInEveryWorld) {
  constexpr std::int64_t kSize = 53;  // no multiple of any step
  constexpr std::int64_t kEpochs = 4;
  std::vector<std::int64_t> first_order;
  for (const int world : {1, 2, 3, 4}) {
    for (const std::int64_t batch : {1, 3, 60}) {
      auto ranks = Ranks(kSize, batch, 9, world);
      std::vector<std::int64_t> order;
      while (order.size() < kSize * kEpochs) {
        const auto step = Interleave(ranks);
        order.insert(order.end(), step.begin(), step.end());
      }
      for (std::int64_t epoch = 0; epoch < kEpochs; ++epoch) {
        std::vector<std::int64_t> seen(order.begin() + epoch * kSize, order.begin() + (epoch + 1) * kSize);
        std::sort(seen.begin(), seen.end());
        for (std::int64_t i = 0; i < kSize; ++i) ASSERT_EQ(seen[i], i) << "world " << world << " epoch " << epoch;
      }
      // The order is the same whatever the world and the batch.
      order.resize(kSize * kEpochs);
      if (first_order.empty()) first_order = order;
      EXPECT_EQ(order, first_order);
    }
  }
}

TEST(PermutationSamplerTest, GoesOnInAnotherWorld) {
  auto four = Ranks(101, 2, 5, 4);
  std::vector<std::int64_t> order;
  for (int step = 0; step < 9; ++step) {
    const auto drawn = Interleave(four);
    order.insert(order.end(), drawn.begin(), drawn.end());
  }
  const std::string state = four[2].save();
  for (auto& sampler : four) EXPECT_EQ(sampler.save(), state);  // one state, whatever the rank
  auto three = Ranks(101, 2, 5, 3);
  for (auto& sampler : three) sampler.load(state);
  EXPECT_EQ(three[0].samples_drawn(), 72);
  while (order.size() < 303) {
    const auto drawn = Interleave(three);
    order.insert(order.end(), drawn.begin(), drawn.end());
  }
  auto alone = Ranks(101, 1, 5, 1);
  for (const std::int64_t index : order) EXPECT_EQ(alone[0].next()[0], index);
}

TEST(PermutationSamplerTest, ContinuesExactlyAfterLoad) {
  PermutationSampler one(1000, 7, 3, 1, 2);
  for (int i = 0; i < 100; ++i) one.next();
  PermutationSampler two(1000, 7, 3, 1, 2);
  two.load(one.save());
  EXPECT_EQ(one.epoch(), two.epoch());
  EXPECT_EQ(one.epoch(), 1);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(one.next(), two.next());
}

TEST(PermutationSamplerTest, RefusesAnothersState) {
  PermutationSampler sampler(1000, 7, 3, 0, 1);
  EXPECT_THROW(sampler.load(PermutationSampler(999, 7, 3, 0, 1).save()), Error);
  EXPECT_THROW(sampler.load(PermutationSampler(1000, 7, 4, 0, 1).save()), Error);
  const std::string good = sampler.save();
  for (const std::string& bad :
       {std::string(), std::string("hello"), good + " 1", "x" + good, std::string("permutation-sampler-1 1000 3 -5"),
        std::string("permutation-sampler-1 1000 3")}) {
    EXPECT_THROW(sampler.load(bad), Error) << bad;
  }
  EXPECT_NO_THROW(sampler.load(good));
}

TEST(PermutationSamplerTest, RefusesNonsense) {
  EXPECT_THROW(PermutationSampler(0, 1, 0, 0, 1), Error);
  EXPECT_THROW(PermutationSampler(10, 0, 0, 0, 1), Error);
  EXPECT_THROW(PermutationSampler(10, 1, 0, 2, 2), Error);
}

}  // namespace
}  // namespace belay
