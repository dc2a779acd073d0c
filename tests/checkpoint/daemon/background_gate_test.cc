#include "checkpoint/daemon/background_gate.h"

#include <gtest/gtest.h>

#include <thread>

#include "runtime/base/sim/sim_clock.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {
namespace {

TEST(BackgroundGateTest, WithoutARateNothingWaits) {
  base::SimClock clock;
  BackgroundGate gate(clock, 0);
  EXPECT_TRUE(gate.Pass(base::kGiB));
  EXPECT_TRUE(gate.Pass(base::kGiB));
}

TEST(BackgroundGateTest, WhoPassesInHasteIsPaidForByTheNext) {
  base::Clock& clock = base::SystemClock();
  BackgroundGate gate(clock, 100);
  const base::SteadyTime began = clock.Now();
  EXPECT_TRUE(gate.PassInHaste(5));
  EXPECT_TRUE(gate.PassInHaste(5));
  EXPECT_TRUE(gate.Pass(1));  // 10 bytes at 100 a second
  EXPECT_GE(clock.Now() - began, std::chrono::milliseconds(99));
}

TEST(BackgroundGateTest, CountsHowOftenItWasShutForASave) {
  base::SimClock clock;
  BackgroundGate gate(clock, 0);
  gate.SetPaused(false);
  EXPECT_EQ(gate.Pauses(), 0U);
  gate.SetPaused(true);
  gate.SetPaused(true);
  gate.SetPaused(false);
  EXPECT_EQ(gate.Pauses(), 1U) << "it is over, and was all the same";
  gate.SetPaused(true);
  EXPECT_EQ(gate.Pauses(), 2U);
}

TEST(BackgroundGateTest, AClosedGateLetsEverybodyGo) {
  for (const auto haste : {Passage::Haste::kNone, Passage::Haste::kMemoryMayGo}) {
    base::SimClock clock;
    BackgroundGate gate(clock, 1);
    gate.SetPaused(true);
    std::thread closer([&] { gate.Close(); });
    EXPECT_FALSE(Passage(gate, haste).Pass(1));
    closer.join();
  }
}

}  // namespace
}  // namespace belay::checkpoint
