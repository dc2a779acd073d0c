#include "launcher/cli/explain_allocation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "launcher/allocation/detect.h"

namespace belay::launcher {
namespace {

using nlohmann::json;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Key;
using testing::Not;
using testing::Pair;

base::Result<Allocation> Slurm(const std::string& host_name) {
  return DetectAllocation({}, {.environment = {{"SLURM_JOB_NODELIST", "n[1-4]"},
                                               {"SLURM_TASKS_PER_NODE", "8(x4)"},
                                               {"SLURM_JOB_CPUS_PER_NODE", "64(x3),32"},
                                               {"SLURM_JOB_ID", "7"}},
                               .host_name = host_name});
}

TEST(ExplainAllocationTest, SaysWhichShareIsUsedForNow) {
  EXPECT_THAT(
      AllocationLines(Slurm("n2.cluster"), "n2.cluster"),
      ElementsAre(
          Pair("allocation", "Slurm job 7 (SLURM_JOB_NODELIST): 4 nodes, 32 slots"),
          Pair("nodes", "n[1-3]  8 slots, 64 cores each"), Pair("nodes", "n4  8 slots, 32 cores"),
          Pair("for now", "belay run starts its ranks on this host only, n2.cluster, which has 8 of the 32 slots")));
  EXPECT_THAT(AllocationLines(Slurm("login"), "login"),
              Contains(Pair("for now", "belay run starts its ranks on this host only, login, which is none of these")));
}

TEST(ExplainAllocationTest, ThisMachineAloneNeedsNoExcuse) {
  const auto allocation = DetectAllocation({}, {.host_name = "desk", .gpus = 1, .cores = 4});
  EXPECT_THAT(AllocationLines(allocation, "desk"), Not(Contains(Key("for now"))));
}

TEST(ExplainAllocationTest, AnAllocationThatCannotBeMadeOutIsSaid) {
  const auto allocation = DetectAllocation({}, {.environment = {{"SLURM_JOB_NODELIST", "n["}}, .host_name = "desk"});
  EXPECT_THAT(AllocationLines(allocation, "desk"),
              ElementsAre(Pair("allocation", HasSubstr("cannot be made out: SLURM_JOB_NODELIST")),
                          Pair("for now", HasSubstr("this host only, desk"))));
  json document;
  AddAllocation(allocation, document);
  EXPECT_TRUE(document.at("allocation").is_null());
  EXPECT_THAT(document.at("allocation_error").get<std::string>(), HasSubstr("SLURM_JOB_NODELIST"));
}

TEST(ExplainAllocationTest, WritesTheDocumentedFields) {
  auto allocation = Slurm("n4");
  allocation->end_time = 1'800'000'000;
  json document;
  AddAllocation(allocation, document);
  EXPECT_TRUE(document.at("allocation_error").is_null());
  const json& found = document.at("allocation");
  EXPECT_EQ(found.at("source"), "slurm");
  EXPECT_EQ(found.at("said_by"), "SLURM_JOB_NODELIST");
  EXPECT_EQ(found.at("job_id"), "7");
  EXPECT_EQ(found.at("slots"), 32);
  EXPECT_EQ(found.at("this_node"), "n4");
  EXPECT_EQ(found.at("end_time"), "2027-01-15T08:00:00.000Z");
  EXPECT_TRUE(found.at("restart_count").is_null());
  EXPECT_EQ(found.at("hosts_may_be_down"), false);
  ASSERT_EQ(found.at("nodes").size(), 4U);
  EXPECT_EQ(found.at("nodes")[3], (json{{"name", "n4"}, {"slots", 8}, {"gpus", nullptr}, {"cores", 32}}));
}

}  // namespace
}  // namespace belay::launcher
