#include "runtime/session/device_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace belay::runtime {
namespace {

using testing::HasSubstr;

TEST(DeviceIndexTest, IsTheLocalRankWhereAllGpusAreVisible) {
  for (int local_rank = 0; local_rank < 8; ++local_rank) EXPECT_EQ(DeviceIndex(local_rank, 8), local_rank);
}

TEST(DeviceIndexTest, IsTheOnlyOneWhereEachRankSeesItsOwn) {
  for (int local_rank = 0; local_rank < 8; ++local_rank) EXPECT_EQ(DeviceIndex(local_rank, 1), 0);
  // Two ranks share a pair of visible ones: each takes one of it.
  EXPECT_EQ(DeviceIndex(2, 2), 0);
  EXPECT_EQ(DeviceIndex(3, 2), 1);
}

TEST(DeviceNameTest, IsSpelledLikeNvidiaSmi) {
  std::vector<std::uint8_t> uuid(16);
  std::iota(uuid.begin(), uuid.end(), std::uint8_t{0xF8});
  EXPECT_EQ(DeviceName(uuid), "GPU-f8f9fafb-fcfd-feff-0001-020304050607");
}

TEST(CheckDevicesTest, AcceptsOneEach) {
  EXPECT_TRUE(CheckDevices({}));
  EXPECT_TRUE(CheckDevices(std::vector<HeldDevice>{{0, "a", 0, ""}, {0, "a", 0, ""}})) << "all on the CPU";
  // The same number, but not the same device; and equal names on two nodes, as in virtual machines, do not meet.
  EXPECT_TRUE(CheckDevices(
      std::vector<HeldDevice>{{0, "a", 1, "GPU-1"}, {0, "a", 1, "GPU-2"}, {1, "b", 1, "GPU-1"}, {1, "b", 1, "GPU-2"}}));
}

TEST(CheckDevicesTest, RefusesTwoRanksOnOneGpu) {
  const auto refused =
      CheckDevices(std::vector<HeldDevice>{{0, "a", 1, "GPU-1"}, {1, "b", 1, "GPU-7"}, {1, "b", 1, "GPU-7"}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, base::Code::kInvalidArgument);
  EXPECT_THAT(refused.error().message, HasSubstr("ranks 1 and 2 took the same GPU, GPU-7 of b"));
  EXPECT_THAT(refused.error().message, HasSubstr("CUDA_VISIBLE_DEVICES"));
}

TEST(CheckDevicesTest, RefusesARankWithoutAGpuAmongOthersWithOne) {
  const auto refused = CheckDevices(std::vector<HeldDevice>{{0, "a", 1, "GPU-1"}, {1, "b", 0, ""}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, base::Code::kUnavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("rank 1 on b has no usable GPU, but rank 0 on a has"));
}

TEST(HeldDeviceTest, TravelsBetweenRanks) {
  for (const HeldDevice& held : {HeldDevice{3, "node-3.cluster", 8, "GPU-1"}, HeldDevice{0, "a", 0, ""}}) {
    const auto back = DecodeHeldDevice(EncodeHeldDevice(held));
    ASSERT_TRUE(back);
    EXPECT_EQ(back->node_rank, held.node_rank);
    EXPECT_EQ(back->host, held.host);
    EXPECT_EQ(back->visible, held.visible);
    EXPECT_EQ(back->gpu, held.gpu);
  }
  for (const char* bad : {"", "1", "x 1 - a", "1 2 -"}) {
    const auto back = DecodeHeldDevice(bad);
    ASSERT_FALSE(back) << bad;
    EXPECT_EQ(back.error().code, base::Code::kProtocol);
  }
}

}  // namespace
}  // namespace belay::runtime
