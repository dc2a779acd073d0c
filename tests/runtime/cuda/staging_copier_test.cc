// The order of copies, on a fake GPU whose queues run only as far as somebody waits, so that a missing wait shows.
#include "runtime/cuda/staging_copier.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/runtime/cuda/lazy_engine.h"

namespace belay::runtime {
namespace {

struct State {
  explicit State(const std::vector<std::size_t>& sizes) {
    std::size_t total = 0;
    for (const std::size_t size : sizes) {
      tensors.emplace_back(size, static_cast<std::byte>(1 + tensors.size()));
      total += size;
    }
    staging.resize(total);
    std::size_t offset = 0;
    for (const auto& tensor : tensors) {
      copies.push_back({tensor.data(), staging.data() + offset, tensor.size()});
      offset += tensor.size();
    }
  }
  bool Landed() const {
    for (std::size_t i = 0; i < copies.size(); ++i) {
      const auto expected = static_cast<std::byte>(1 + i);
      for (std::size_t b = 0; b < copies[i].bytes; ++b) {
        if (copies[i].destination[b] != expected) return false;
      }
    }
    return true;
  }
  void Update() {
    for (auto& tensor : tensors) std::fill(tensor.begin(), tensor.end(), std::byte{0xEE});
  }
  std::vector<std::vector<std::byte>> tensors;
  std::vector<std::byte> staging;
  std::vector<checkpoint::Copier::Copy> copies;
};

struct Fixture {
  Fixture() : engine(new LazyEngine), copier(std::unique_ptr<CopyEngine>(engine)) {}
  LazyEngine* engine;
  StagingCopier copier;
};

TEST(StagingCopierTest, AnUpdateAfterTheGuardIsNotInTheCopy) {
  Fixture f;
  State state({100, 5'000'000, 7, 300'000, 9});
  ASSERT_TRUE(f.copier.MarkStepEnd());
  ASSERT_TRUE(f.copier.Begin(state.copies));
  ASSERT_TRUE(f.copier.GuardUpdate());
  state.Update();
  for (std::size_t i = 0; i < state.copies.size(); ++i) ASSERT_TRUE(f.copier.Land(i, i));
  EXPECT_TRUE(state.Landed());
}

TEST(StagingCopierTest, WithoutTheGuardTheSameUpdateTearsTheCopy) {
  // Shows that the fake can fail: the test above would pass on an engine that copies at once.
  Fixture f;
  State state({100, 5'000'000});
  ASSERT_TRUE(f.copier.MarkStepEnd());
  ASSERT_TRUE(f.copier.Begin(state.copies));
  state.Update();
  ASSERT_TRUE(f.copier.Land(0, 1));
  EXPECT_FALSE(state.Landed());
}

TEST(StagingCopierTest, LandBringsTheCopiesAndTheirDigest) {
  Fixture f;
  State state({6'000'000, 20, 20, 4'000'000, 50});
  ASSERT_TRUE(f.copier.MarkStepEnd());
  ASSERT_TRUE(f.copier.Begin(state.copies));
  const auto digest = f.copier.Land(1, 2);
  ASSERT_TRUE(digest);
  EXPECT_EQ(*digest, checkpoint::DigestChunk(std::span(state.staging).subspan(6'000'000, 40)));
  for (std::size_t i = 0; i <= 2; ++i) {
    EXPECT_EQ(state.copies[i].destination[state.copies[i].bytes - 1], static_cast<std::byte>(1 + i)) << i;
  }
  EXPECT_GT(f.engine->Pending(), 0U) << "waiting for an early copy must not wait for all";
}

TEST(StagingCopierTest, SmallNeighboursTravelTogether) {
  Fixture f;
  State state(std::vector<std::size_t>(300, 64));
  ASSERT_TRUE(f.copier.MarkStepEnd());
  ASSERT_TRUE(f.copier.Begin(state.copies));
  ASSERT_TRUE(f.copier.Land(0, 299));
  EXPECT_TRUE(state.Landed());
  EXPECT_EQ(f.engine->controls().packs, 3);  // 128 + 128 + 44
  EXPECT_EQ(f.engine->controls().copies, 0);
}

TEST(StagingCopierTest, SmallTensorsThatAreNotNeighboursGoAlone) {
  Fixture f;
  State state({64, 64});
  std::swap(state.copies[0].destination, state.copies[1].destination);
  ASSERT_TRUE(f.copier.MarkStepEnd());
  ASSERT_TRUE(f.copier.Begin(state.copies));
  ASSERT_TRUE(f.copier.Land(0, 1));
  EXPECT_TRUE(state.Landed());
  EXPECT_EQ(f.engine->controls().copies, 2);
}

TEST(StagingCopierTest, TheGuardWaitsUntilTheWorkerHasIssuedTheCopies) {
  Fixture f;
  State state({1'000'000});
  ASSERT_TRUE(f.copier.MarkStepEnd());
  std::thread worker([&] { ASSERT_TRUE(f.copier.Begin(state.copies)); });
  ASSERT_TRUE(f.copier.GuardUpdate());
  state.Update();
  worker.join();
  EXPECT_TRUE(state.Landed());
}

TEST(StagingCopierTest, TheGuardCostsNothingWhenNoCopyIsUnderWay) {
  Fixture f;
  ASSERT_TRUE(f.copier.GuardUpdate());
  ASSERT_TRUE(f.copier.MarkStepEnd());
  f.copier.CopyEnded();
  ASSERT_TRUE(f.copier.GuardUpdate());
  EXPECT_EQ(f.engine->controls().training_waits, 0);
}

TEST(StagingCopierTest, ACopyThatEndsWithoutHavingBegunLetsTheGuardGo) {
  Fixture f;
  ASSERT_TRUE(f.copier.MarkStepEnd());
  std::thread worker([&] { f.copier.CopyEnded(); });
  ASSERT_TRUE(f.copier.GuardUpdate());  // would hang
  worker.join();
  EXPECT_EQ(f.engine->controls().training_waits, 0);
}

TEST(StagingCopierTest, TheEndOfACopyDoesNotSpareTheGuardItsWait) {
  Fixture f;
  State state({5'000'000});
  ASSERT_TRUE(f.copier.MarkStepEnd());
  ASSERT_TRUE(f.copier.Begin(state.copies));
  f.copier.CopyEnded();
  ASSERT_TRUE(f.copier.GuardUpdate());
  EXPECT_EQ(f.engine->controls().training_waits, 1);
  state.Update();
  EXPECT_TRUE(state.Landed());
}

TEST(StagingCopierTest, TellsOnceHowLongTheStreamStoodStillAsSoonAsItIsKnown) {
  Fixture f;
  State state({5'000'000});
  EXPECT_FALSE(f.copier.TakeStreamWait());
  ASSERT_TRUE(f.copier.MarkStepEnd());
  ASSERT_TRUE(f.copier.Begin(state.copies));
  EXPECT_FALSE(f.copier.TakeStreamWait());
  ASSERT_TRUE(f.copier.GuardUpdate());
  f.engine->controls().stream_wait_seconds = -1;  // the stream has not come so far
  EXPECT_FALSE(f.copier.TakeStreamWait());
  f.engine->controls().stream_wait_seconds = 0.5;
  EXPECT_EQ(f.copier.TakeStreamWait(), 0.5);
  EXPECT_FALSE(f.copier.TakeStreamWait());
}

TEST(StagingCopierTest, SettleBringsWhatWasIssuedBeforeAFailure) {
  Fixture f;
  State state({5'000'000, 5'000'000});
  f.engine->controls().fail_copy_after = 2;  // the second tensor's first piece
  ASSERT_TRUE(f.copier.MarkStepEnd());
  ASSERT_FALSE(f.copier.Begin(state.copies));
  f.copier.Settle();
  EXPECT_EQ(state.staging[4'194'303], std::byte{1});
}

TEST(StagingCopierTest, AFailedIssueIsReportedAndDoesNotHangTheGuard) {
  Fixture f;
  State state({5'000'000, 5'000'000});
  f.engine->controls().fail_copy_after = 1;
  ASSERT_TRUE(f.copier.MarkStepEnd());
  const auto begun = f.copier.Begin(state.copies);
  ASSERT_FALSE(begun);
  EXPECT_EQ(begun.error().code, base::Code::kDevice);
  EXPECT_TRUE(f.copier.GuardUpdate());
}

}  // namespace
}  // namespace belay::runtime
