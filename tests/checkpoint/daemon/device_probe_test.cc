#include "checkpoint/daemon/device_probe.h"

#include <gtest/gtest.h>

#include "runtime/base/fault_points.h"
#include "runtime/base/sim/sim_clock.h"
#include "tests/runtime/base/test_util.h"

namespace belay::checkpoint {
namespace {

using base::BulkShape;
using base::Code;
using End = ProbeResult::End;

constexpr std::uint64_t kFast = 10 * base::kGiB;

// A round in which every candidate is as fast as the default, but one.
ProbeRound Round(std::size_t other, std::uint64_t write, std::uint64_t read, std::uint64_t usual = 1000) {
  ProbeRound round;
  for (const BulkShape& shape : ProbeCandidates()) round.push_back({shape, usual, usual});
  round.at(other).write = write;
  round.at(other).read = read;
  return round;
}
BulkShape Chosen(const std::vector<ProbeRound>& rounds) { return ChooseShape(rounds); }

TEST(ChooseShapeTest, TheDefaultStaysUnlessAnotherIsClearlyBetter) {
  const BulkShape other = ProbeCandidates()[2];
  EXPECT_EQ(Chosen({}), BulkShape());
  EXPECT_EQ(Chosen({3, Round(2, 1000, 1000)}), BulkShape());
  EXPECT_EQ(Chosen({3, Round(2, 1090, 2000)}), BulkShape()) << "a tenth is asked for";
  EXPECT_EQ(Chosen({3, Round(2, 1100, 1000)}), other);
  EXPECT_EQ(Chosen({3, Round(2, 1500, 980)}), other) << "reads as fast";
  EXPECT_EQ(Chosen({3, Round(2, 1500, 900)}), BulkShape()) << "reads slower";
}

TEST(ChooseShapeTest, OneLuckyRoundIsNotEnough) {
  EXPECT_EQ(Chosen({Round(2, 9000, 1000), Round(2, 1000, 1000), Round(2, 1000, 1000)}), BulkShape());
  EXPECT_EQ(Chosen({Round(2, 9000, 1000), Round(2, 1200, 1000), Round(2, 1040, 1000)}), BulkShape())
      << "the median is, but not in every round";
  // The whole disk drifts; within each round the other one is ahead.
  EXPECT_EQ(Chosen({Round(2, 1300, 1000), Round(2, 700, 500, 500), Round(2, 2400, 2000, 2000)}), ProbeCandidates()[2]);
}

TEST(ChooseShapeTest, TheFastestOfTheBetterOnesWins) {
  ProbeRound round = Round(1, 1200, 1000);
  round[3].write = 1400;
  round[4].write = 1300;
  EXPECT_EQ(Chosen({3, round}), ProbeCandidates()[3]);
}

TEST(ProbeCandidatesTest, AreUsableAndBeginWithTheDefault) {
  EXPECT_EQ(ProbeCandidates().front(), BulkShape());
  for (const BulkShape& shape : ProbeCandidates()) {
    EXPECT_TRUE(IsUsable(shape));
    EXPECT_LE(shape.block_bytes * shape.queue_depth, kProbeFileBytesMax) << "more is never in flight";
  }
}

// A disk on paper: `better` writes half as fast again.
class RunProbeTest : public testing::Test {
 protected:
  ProbeResult Run() {
    return RunProbe([this](const BulkShape& shape, std::uint64_t bytes) { return Measure(shape, bytes); },
                    [this] { return files_ < abandoned_after_; }, clock_);
  }
  base::Result<index::ShapeSpeed> Measure(const BulkShape& shape, std::uint64_t bytes) {
    if (files_ == fails_at_) return base::Fail(Code::kNoSpace, "full");
    if (++files_ == slow_from_) speed_ = 100 * base::kMiB;
    written_ += bytes;
    largest_ = std::max(largest_, bytes);
    const std::uint64_t write = shape == better_ ? speed_ / 2 * 3 : speed_;
    const double seconds = static_cast<double>(bytes) / static_cast<double>(write) +
                           static_cast<double>(bytes) / static_cast<double>(speed_);
    clock_.Advance(std::chrono::duration_cast<base::Duration>(std::chrono::duration<double>(seconds)));
    return index::ShapeSpeed{shape, write, speed_};
  }

  base::SimClock clock_;
  const base::SteadyTime began_ = clock_.Now();
  BulkShape better_{base::kMiB, 32};
  std::uint64_t speed_ = kFast, written_ = 0, largest_ = 0;
  int files_ = 0, fails_at_ = -1, slow_from_ = -1, abandoned_after_ = 1000;
};

TEST_F(RunProbeTest, FindsTheBetterShapeWithinItsBounds) {
  const ProbeResult result = Run();
  EXPECT_EQ(result.end, End::kMeasured);
  EXPECT_EQ(result.record.shape, better_);
  EXPECT_EQ(result.record.speeds.size(), ProbeCandidates().size());
  EXPECT_EQ(result.why, "");
  EXPECT_LE(written_, 2 * base::kGiB);
  EXPECT_EQ(largest_, kProbeFileBytesMax);
  EXPECT_LE(clock_.Now() - began_, kProbeTime);
}

TEST_F(RunProbeTest, ASlowerDiskGetsSmallerFilesAndAVerySlowOneKeepsTheDefault) {
  speed_ = base::kGiB;
  EXPECT_EQ(Run().record.shape, better_);
  EXPECT_LT(largest_, kProbeFileBytesMax);
  EXPECT_LE(clock_.Now() - began_, kProbeTime);
  speed_ = 200 * base::kMiB;
  files_ = 0;
  const ProbeResult slow = Run();
  EXPECT_EQ(slow.end, End::kLeftOut);
  EXPECT_NE(slow.why.find("too slow"), std::string::npos);
  EXPECT_EQ(files_, 2) << "the first may have met the end of something else";
}

TEST_F(RunProbeTest, ADiskThatBecomesSlowKeepsTheDefault) {
  slow_from_ = 9;
  const ProbeResult result = Run();
  EXPECT_EQ(result.end, End::kMeasured) << "so much is not written again at the next start";
  EXPECT_EQ(result.record.shape, BulkShape());
  EXPECT_TRUE(result.record.speeds.empty());
  EXPECT_NE(result.why.find("too slow"), std::string::npos);
  EXPECT_LT(files_, 12);
}

TEST_F(RunProbeTest, IsAbandonedWhenSomebodySaves) {
  for (abandoned_after_ = 0; abandoned_after_ <= 16; abandoned_after_ += 4) {
    files_ = 0;
    EXPECT_EQ(Run().end, End::kAbandoned);
    EXPECT_EQ(files_, abandoned_after_) << "and no other file is begun";
  }
}

TEST_F(RunProbeTest, ADiskThatFailsIsNotAskedAgain) {
  for (fails_at_ = 0; fails_at_ < 16; fails_at_ += 5) {
    files_ = 0;
    const ProbeResult result = Run();
    EXPECT_EQ(result.end, End::kFailed);
    EXPECT_NE(result.why.find("full"), std::string::npos);
    EXPECT_EQ(files_, fails_at_);
  }
}

// On the disk that the tests run on; what it is like is not the question.
class ProbeDeviceTest : public testing::Test {
 protected:
  ~ProbeDeviceTest() override { base::DisarmFaults(); }
  ProbeResult Probe(const std::string& folder) {
    return ProbeDevice(base::PosixFileSystem(), base::SystemClock(), folder, gate_, gate_.Pauses());
  }
  bool CanMeasure() {
    return base::BulkWriterName(folder_.path()) != "buffered" &&
           base::PosixFileSystem().Space(folder_.path())->available_bytes > kProbeFreeTimes * kProbeFileBytesMax;
  }
  base::ScratchFolder folder_;
  BackgroundGate gate_{base::SystemClock(), 0};
};

TEST_F(ProbeDeviceTest, AWriteThatFailsLeavesNothing) {
  if (!CanMeasure()) GTEST_SKIP() << "no room on this disk, or no direct I/O";
  for (const char* fault : {"probe.before_write=nospace", "probe.before_write=io@2"}) {
    ASSERT_OK(base::ArmFaults(fault));
    const ProbeResult result = Probe(folder_.path());
    EXPECT_EQ(result.end, End::kFailed);
    EXPECT_EQ(result.folder, folder_.path());
    EXPECT_NE(result.why.find("fault point"), std::string::npos) << result.why;
    EXPECT_TRUE(base::PosixFileSystem().List(folder_.path())->empty());
  }
}

TEST_F(ProbeDeviceTest, IsLeftOutWhereThereIsNothingToChoose) {
  const ProbeResult result = Probe("/dev/shm");
  EXPECT_EQ(result.end, End::kLeftOut);
  EXPECT_FALSE(result.why.empty());
  EXPECT_EQ(Probe(folder_ / "nowhere").end, End::kFailed);
}

TEST_F(ProbeDeviceTest, IsAbandonedIfTheNodeWasNotIdleAllTheTime) {
  if (!CanMeasure()) GTEST_SKIP() << "no room on this disk, or no direct I/O";
  const std::uint64_t before = gate_.Pauses();
  gate_.SetPaused(true);
  gate_.SetPaused(false);
  EXPECT_EQ(ProbeDevice(base::PosixFileSystem(), base::SystemClock(), folder_.path(), gate_, before).end,
            End::kAbandoned);
  gate_.Close();
  EXPECT_EQ(Probe(folder_.path()).end, End::kAbandoned);
}

}  // namespace
}  // namespace belay::checkpoint
