#include "launcher/allocation/detect.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

AllocationHost Everything() {
  return {.environment = {{"SLURM_JOB_NODELIST", "s1"},
                          {"PBS_NODEFILE", "/pbs"},
                          {"LSB_JOBID", "1"},
                          {"LSB_HOSTS", "l1"},
                          {"K_MPI_JOB_ROLE", "launcher"}},
          .host_name = "here",
          .gpus = 2,
          .cores = 4,
          .read_file = [](const std::string& path) -> base::Result<std::string> {
            if (path == "/pbs") return std::string("p1\n");
            if (path == "/etc/mpi/hostfile") return std::string("k1 slots=2\n");
            if (path == "/hosts") return std::string("f1 slots=3\n");
            return base::Fail(base::Code::kNotFound, "no file ", path);
          }};
}
std::string First(const AskedHosts& asked, const AllocationHost& host) {
  const auto found = DetectAllocation(asked, host);
  return found ? base::Str(Name(found->source), " ", found->nodes[0].name) : found.error().Text();
}

TEST(DetectTest, TheFirstThatSaysAnythingCounts) {
  AllocationHost host = Everything();
  EXPECT_EQ(First({.host_lists = {"h1"}}, host), "host_list h1");
  EXPECT_EQ(First({.hostfile = "/hosts"}, host), "hostfile f1");
  EXPECT_EQ(First({}, host), "slurm s1");
  host.environment.erase("SLURM_JOB_NODELIST");
  EXPECT_EQ(First({}, host), "pbs p1");
  host.environment.erase("PBS_NODEFILE");
  EXPECT_EQ(First({}, host), "lsf l1");
  host.environment.erase("LSB_JOBID");
  EXPECT_EQ(First({}, host), "kubeflow k1");
  host.environment.erase("K_MPI_JOB_ROLE");
  EXPECT_EQ(First({}, host), "this_machine here");
}

TEST(DetectTest, WhatIsPassedOverIsNamed) {
  EXPECT_THAT(
      DetectAllocation({}, Everything())->notes,
      ElementsAre("PBS_NODEFILE is set too; Slurm counts before PBS", "LSB_JOBID is set too; Slurm counts before LSF",
                  "K_MPI_JOB_ROLE is set too; Slurm counts before the MPI operator"));
  EXPECT_THAT(DetectAllocation({.host_lists = {"a"}}, Everything())->notes,
              Contains("SLURM_JOB_NODELIST is set too; --host counts before Slurm"));
  AllocationHost worker = Everything();
  worker.environment = {{"K_MPI_JOB_ROLE", "worker"}};
  EXPECT_THAT(DetectAllocation({}, worker)->notes, IsEmpty());
}

TEST(DetectTest, AWrongWordIsAnErrorAndNotAskedFurther) {
  AllocationHost host = Everything();
  host.environment["SLURM_JOB_NODELIST"] = "s[";
  EXPECT_THAT(First({}, host), HasSubstr("SLURM_JOB_NODELIST: a '['"));
  EXPECT_EQ(First({.host_lists = {"h1"}}, host), "host_list h1") << "a person may know better";
  EXPECT_THAT(First({.hostfile = "/nope"}, host), HasSubstr("/nope"));
  EXPECT_THAT(First({.host_lists = {"a"}, .hostfile = "/hosts"}, host), HasSubstr("not both"));
}

TEST(DetectTest, SeveralHostOptionsAddUp) {
  const auto found = DetectAllocation({.host_lists = {"a:2,b", "a"}}, Everything());
  ASSERT_TRUE(found);
  EXPECT_THAT(found->nodes, ElementsAre(Node{"a", 3, {}, {}}, Node{"b", 1, {}, {}}));
  EXPECT_FALSE(found->this_node);
}

TEST(DetectTest, ThisMachineTakesARankPerGpu) {
  AllocationHost host = Everything();
  host.environment.clear();
  EXPECT_THAT(DetectAllocation({}, host)->nodes, ElementsAre(Node{"here", 2, 2, 4}));
  host.gpus = 0;
  host.host_name = "-strange name";
  EXPECT_THAT(DetectAllocation({}, host)->nodes, ElementsAre(Node{"localhost", 1, {}, 4}));
}

}  // namespace
}  // namespace belay::launcher
