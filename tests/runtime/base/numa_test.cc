#include "runtime/base/numa.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <thread>

#include "runtime/base/host.h"
#include "runtime/base/shared_memory.h"
#include "runtime/base/sim/mem_file_system.h"
#include "runtime/base/units.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(NumberListTest, ReadsWhatTheKernelWrites) {
  EXPECT_THAT(*ParseNumberList("0\n"), ElementsAre(0));
  EXPECT_THAT(*ParseNumberList("0-3,8,10-11\n"), ElementsAre(0, 1, 2, 3, 8, 10, 11));
  EXPECT_THAT(*ParseNumberList("\n"), IsEmpty()) << "a node without cores";
}

TEST(NumberListTest, RefusesEverythingElse) {
  for (const char* text : {"x", "1-", "-1", "3-1", "1,", ",1", "1,,2", "0-3x", "0-99999999", "99999999999999999999"}) {
    EXPECT_EQ(ParseNumberList(text), std::nullopt) << text;
  }
}

class SysfsTest : public testing::Test {
 protected:
  void Write(const std::string& path, std::string_view text) {
    ASSERT_OK(MakeDirectories(files_, ParentPath(path), 0755));
    ASSERT_OK(WriteFileDurably(files_, path, text));
  }
  MemFileSystem files_;
};

TEST_F(SysfsTest, NodesThatAreOnlineAreListedWithTheirCores) {
  Write("/s/devices/system/node/online", "0,2\n");
  Write("/s/devices/system/node/node0/cpulist", "0-1,4-5\n");
  Write("/s/devices/system/node/node1/cpulist", "2-3\n");
  Write("/s/devices/system/node/node2/cpulist", "\n");
  const auto nodes = ReadNumaNodes(files_, "/s");
  ASSERT_EQ(nodes.size(), 2U);
  EXPECT_EQ(nodes[0].id, 0);
  EXPECT_THAT(nodes[0].cores, ElementsAre(0, 1, 4, 5));
  EXPECT_EQ(nodes[1].id, 2);
  EXPECT_THAT(nodes[1].cores, IsEmpty());
}

TEST_F(SysfsTest, AKernelWithoutNumaHasNoNodes) {
  EXPECT_THAT(ReadNumaNodes(files_, "/s"), IsEmpty());
  Write("/s/devices/system/node/online", "what?\n");
  EXPECT_THAT(ReadNumaNodes(files_, "/s"), IsEmpty());
}

TEST_F(SysfsTest, ADeviceHangsOnTheNodeThatItsFileNames) {
  Write("/s/bus/pci/devices/0000:1b:00.0/numa_node", "1\n");
  Write("/s/bus/pci/devices/0000:5d:00.0/numa_node", "-1\n");
  Write("/s/bus/pci/devices/0000:9a:00.0/numa_node", "one\n");
  EXPECT_EQ(PciDeviceNode(files_, "0000:1b:00.0", "/s"), 1);
  EXPECT_EQ(PciDeviceNode(files_, "0000:5d:00.0", "/s"), std::nullopt);
  EXPECT_EQ(PciDeviceNode(files_, "0000:9a:00.0", "/s"), std::nullopt);
  EXPECT_EQ(PciDeviceNode(files_, "0000:00:00.0", "/s"), std::nullopt);
}

// --- this machine ---

class MachineNumaTest : public testing::Test {
 protected:
  static constexpr std::uint64_t kBytes = 8 * kMiB;
  void SetUp() override {
    auto fd = CreateSharedMemory({.name = "numa-test", .size_bytes = kBytes});
    ASSERT_OK(fd);
    fd_ = *std::move(fd);
    auto mapping = MapSharedMemory(fd_.get(), kBytes, MapAccess::kReadWrite);
    ASSERT_OK(mapping);
    mapping_ = *std::move(mapping);
  }
  UniqueFd fd_;
  Mapping mapping_;
};

TEST_F(MachineNumaTest, PagesComeFromTheNodeThatWasAskedFor) {
  const auto nodes = ReadNumaNodes(PosixFileSystem());
  if (nodes.empty()) GTEST_SKIP() << "needs a kernel with NUMA";
  // The last one: where there are several, this thread's memory hardly comes from there anyway.
  const auto with_memory =
      std::find_if(nodes.rbegin(), nodes.rend(), [](const auto& node) { return !node.cores.empty(); });
  ASSERT_NE(with_memory, nodes.rend());
  const Status preferred = MachineNuma().Prefer(mapping_.bytes(), with_memory->id);
  if (!preferred && preferred.error().code == Code::kPermissionDenied) GTEST_SKIP() << preferred.error().Text();
  ASSERT_OK(preferred);
  EXPECT_THAT(MachineNuma().Locate(mapping_.bytes()), IsEmpty()) << "asking brings no page in";
  // Through another mapping, as a trainer may.
  const auto other = MapSharedMemory(fd_.get(), kBytes, MapAccess::kReadWrite);
  ASSERT_OK(other);
  ASSERT_OK(TouchPages(other->bytes(), 2));
  ASSERT_OK(TouchPages(mapping_.bytes(), 1));
  const auto found = MachineNuma().Locate(mapping_.bytes());
  ASSERT_FALSE(found.empty());
  // A node may be full, and then another gives the rest; not most of eight mebibytes.
  const auto there = found.find(with_memory->id);
  ASSERT_NE(there, found.end());
  EXPECT_GT(there->second, 32);
}

TEST_F(MachineNumaTest, ANodeThatIsNotThereIsAnErrorAndMemoryWorksAllTheSame) {
  for (const std::int32_t node : {-1, -7, 999, 1024, 1 << 30}) {
    const Status preferred = MachineNuma().Prefer(mapping_.bytes(), node);
    ASSERT_FALSE(preferred) << node;
    EXPECT_FALSE(preferred.error().Text().empty());
    EXPECT_THAT(MachineNuma().Cores(node), IsEmpty());
  }
  ASSERT_OK(TouchPages(mapping_.bytes(), 1));
}

TEST(StayOnCoresTest, HoldsTheThreadAndWhatItStartsAndPutsBackWhatWas) {
  const std::vector<int> before = AllowedCores();
  if (before.size() < 2) GTEST_SKIP() << "needs two cores";
  {
    const StayOnCores stay({before.back(), 100000});
    EXPECT_THAT(AllowedCores(), ElementsAre(before.back()));
    std::thread([&] { EXPECT_THAT(AllowedCores(), ElementsAre(before.back())); }).join();
  }
  EXPECT_EQ(AllowedCores(), before);
}

TEST(StayOnCoresTest, CoresThatThisProcessMayNotUseChangeNothing) {
  const std::vector<int> before = AllowedCores();
  const StayOnCores none({});
  const StayOnCores others({100000});
  EXPECT_EQ(AllowedCores(), before);
}

}  // namespace
}  // namespace belay::base
