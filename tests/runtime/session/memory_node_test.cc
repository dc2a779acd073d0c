#include "runtime/session/memory_node.h"

#include <gtest/gtest.h>

#include "runtime/base/host.h"
#include "runtime/base/sim/mem_file_system.h"
#include "tests/runtime/base/test_util.h"

namespace belay::runtime {
namespace {

// Two sockets of four cores, and memory without cores (a GPU's own, as on Grace).
Placement TwoSockets() {
  return {{{0, {0, 1, 2, 3}}, {1, {4, 5, 6, 7}}, {2, {}}}, {0, 1, 2, 3, 4, 5, 6, 7}, false, std::nullopt};
}

TEST(NearestNodeTest, IsTheGpusWhereverTheProcessMayRun) {
  Placement placement = TwoSockets();
  placement.on_gpu = true;
  placement.gpu_node = 1;
  EXPECT_EQ(NearestNode(placement), 1);
  placement.cores = {0, 1};
  EXPECT_EQ(NearestNode(placement), 1);
}

TEST(NearestNodeTest, AGpuWhoseNodeIsNotKnownHasNone) {
  Placement placement = TwoSockets();
  placement.on_gpu = true;
  placement.cores = {0, 1};
  EXPECT_EQ(NearestNode(placement), std::nullopt) << "where its cores are says nothing about the GPU";
  placement.gpu_node = 3;
  EXPECT_EQ(NearestNode(placement), std::nullopt) << "such a node is not online";
}

TEST(NearestNodeTest, OnTheCpuIsTheOneThatHasAllCores) {
  Placement placement = TwoSockets();
  EXPECT_EQ(NearestNode(placement), std::nullopt) << "both sockets";
  placement.cores = {5, 6};
  EXPECT_EQ(NearestNode(placement), 1);
  placement.cores = {3, 4};
  EXPECT_EQ(NearestNode(placement), std::nullopt);
  placement.cores = {};
  EXPECT_EQ(NearestNode(placement), std::nullopt) << "not known";
}

TEST(NearestNodeTest, AMachineWithOneNodeOrNoneLeavesNoChoice) {
  EXPECT_EQ(NearestNode({{{0, {0, 1}}}, {0}, false, std::nullopt}), std::nullopt);
  EXPECT_EQ(NearestNode({{{0, {0, 1}}}, {0}, true, 0}), std::nullopt);
  EXPECT_EQ(NearestNode({{}, {0}, true, 0}), std::nullopt);
}

TEST(PciBusIdTest, IsSpelledAsInSysfs) {
  EXPECT_EQ(PciBusId(0, 0x1b, 0), "0000:1b:00.0");
  EXPECT_EQ(PciBusId(0x10000, 0xC1, 0x1F), "10000:c1:1f.0");
}

TEST(ReadPlacementTest, TakesTheGpusNodeFromSysfs) {
  base::MemFileSystem files;
  const auto write = [&](const std::string& path, std::string_view text) {
    ASSERT_OK(base::MakeDirectories(files, base::ParentPath(path), 0755));
    ASSERT_OK(base::WriteFileDurably(files, path, text));
  };
  write("/s/devices/system/node/online", "0-1\n");
  write("/s/devices/system/node/node0/cpulist", "0-1\n");
  write("/s/devices/system/node/node1/cpulist", "2-3\n");
  write("/s/bus/pci/devices/0000:1b:00.0/numa_node", "1\n");
  write("/s/bus/pci/devices/0000:5d:00.0/numa_node", "-1\n");
  const auto nearest = [&](const std::optional<std::string>& gpu, std::vector<int> cores) {
    return NearestNode(ReadPlacement(files, gpu, std::move(cores), "/s"));
  };
  EXPECT_EQ(nearest("0000:1b:00.0", {0}), 1);
  EXPECT_EQ(nearest("0000:5d:00.0", {0}), std::nullopt) << "a virtual machine that does not say";
  EXPECT_EQ(nearest("0000:77:00.0", {0}), std::nullopt) << "no such device";
  EXPECT_EQ(nearest(std::nullopt, {0, 1}), 0);
  EXPECT_EQ(nearest(std::nullopt, {0, 2}), std::nullopt);
}

TEST(ReadPlacementTest, OfThisMachineMakesSense) {
  const Placement placement = ReadPlacement(base::PosixFileSystem(), std::nullopt, base::AllowedCores());
  const auto node = NearestNode(placement);
  EXPECT_TRUE(!node || placement.nodes.size() > 1);
}

}  // namespace
}  // namespace belay::runtime
