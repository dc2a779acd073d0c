#include "launcher/allocation/batch_systems.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/allocation/gpu_count.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Environment = std::map<std::string, std::string>;

AllocationHost Host(Environment environment, std::string file = "") {
  return {.environment = std::move(environment),
          .host_name = "n1",
          .read_file = [file = std::move(file)](const std::string& path) -> base::Result<std::string> {
            if (file.empty()) return base::Fail(base::Code::kNotFound, "no file ", path);
            return file;
          }};
}

// Nodes as "name:slots".
std::vector<std::string> Nodes(const base::Result<std::optional<Allocation>>& found) {
  if (!found) return {found.error().Text()};
  if (!*found) return {"none"};
  std::vector<std::string> nodes;
  for (const Node& node : (*found)->nodes) nodes.push_back(base::Str(node.name, ":", node.slots));
  return nodes;
}
std::vector<std::string> Slurm(Environment environment) { return Nodes(SlurmAllocation(Host(std::move(environment)))); }

TEST(SlurmTest, SlotsComeFromTheTasks) {
  Environment e = {{"SLURM_JOB_NODELIST", "n[1-3]"}};
  EXPECT_THAT(Slurm(e), ElementsAre("n1:1", "n2:1", "n3:1"));
  e["SLURM_NTASKS"] = "7";
  EXPECT_THAT(Slurm(e), ElementsAre("n1:3", "n2:2", "n3:2")) << "in blocks";
  e["SLURM_NTASKS_PER_NODE"] = "4";
  EXPECT_THAT(Slurm(e), ElementsAre("n1:4", "n2:4", "n3:4"));
  e["SLURM_TASKS_PER_NODE"] = "2(x2),1";
  EXPECT_THAT(Slurm(e), ElementsAre("n1:2", "n2:2", "n3:1")) << "Slurm's own account counts most";
  EXPECT_THAT(Slurm({{"SLURM_NODELIST", "a"}}), ElementsAre("a:1")) << "older name";
  EXPECT_THAT(Slurm({{"SLURM_JOB_ID", "7"}, {"SLURM_JOB_NODELIST", " "}}), ElementsAre("none"));
}

TEST(SlurmTest, AStepNarrowsTheJob) {
  Environment e = {{"SLURM_JOB_NODELIST", "n[1-4]"},     {"SLURM_JOB_CPUS_PER_NODE", "8,16,24,32"},
                   {"SLURM_TASKS_PER_NODE", "3(x2)"},    {"SLURM_STEP_ID", "5"},
                   {"SLURM_STEP_NODELIST", "n[2,4]"},    {"SLURM_STEP_TASKS_PER_NODE", "3(x2)"},
                   {"SLURM_GPUS_PER_NODE", "gpu:b200:8"}};
  const auto found = SlurmAllocation(Host(e));
  ASSERT_TRUE(found && *found) << found.error().Text();
  EXPECT_THAT((*found)->nodes, ElementsAre(Node{"n2", 3, 8, 16}, Node{"n4", 3, 8, 32}));
  EXPECT_EQ((*found)->said_by, "SLURM_STEP_NODELIST");
  e.erase("SLURM_STEP_TASKS_PER_NODE");
  e["SLURM_STEP_NUM_TASKS"] = "5";
  EXPECT_THAT(Slurm(e), ElementsAre("n2:3", "n4:2"));
}

TEST(SlurmTest, AStepThatIsNotThisJobsIsLeftAside) {
  Environment e = {{"SLURM_JOB_NODELIST", "n1"},  {"SLURM_TASKS_PER_NODE", "8"},      {"SLURM_STEP_ID", "0"},
                   {"SLURM_STEP_NODELIST", "n1"}, {"SLURM_STEP_TASKS_PER_NODE", "1"}, {"SLURM_STEP_NUM_TASKS", "1"}};
  const auto found = SlurmAllocation(Host(e));
  ASSERT_TRUE(found && *found);
  EXPECT_EQ((*found)->nodes[0].slots, 8);
  EXPECT_THAT((*found)->notes, ElementsAre(HasSubstr("SLURM_STEP_TASKS_PER_NODE is '1' and SLURM_TASKS_PER_NODE '8'")));
}

TEST(SlurmTest, GpusOfThisNodeAreNotTakenForThoseOfOthers) {
  Environment e = {{"SLURM_JOB_NODELIST", "n[1-2]"}, {"SLURM_JOB_GPUS", "0,2-4"}};
  const auto gpus = [&] {
    const auto found = SlurmAllocation(Host(e));
    std::vector<int> counts;
    for (const Node& node : (*found)->nodes) counts.push_back(node.gpus.value_or(-1));
    return counts;
  };
  EXPECT_THAT(gpus(), ElementsAre(4, -1)) << "indices";
  e["SLURM_GPUS_ON_NODE"] = "gpu:b200:3";
  EXPECT_THAT(gpus(), ElementsAre(3, -1));
  e["SLURMD_NODENAME"] = "n2";
  EXPECT_THAT(gpus(), ElementsAre(-1, 3)) << "Slurm knows best which node this is";
  e["SLURM_GPUS_PER_NODE"] = "8";
  EXPECT_THAT(gpus(), ElementsAre(8, 8));
}

TEST(SlurmTest, CountsGpusHoweverTheyAreWritten) {
  const std::pair<const char*, int> kCases[] = {
      {"8", 8},          {"b200:8", 8},           {"gpu:8", 8},         {"gpu:b200:8", 8},
      {"gres:gpu:4", 4}, {"gres/gpu:b200:4", 4},  {"b200:4,h100:2", 6}, {"gpu:b200:8(S:0-1)", 8},
      {"gpu:b200", 1},   {"gpu:8(IDX:0,2-7)", 8}, {"gpu:3g.20gb:2", 2}, {"0", 0}};
  for (const auto& [text, count] : kCases) {
    const auto counted = CountGpus("V", text);
    ASSERT_TRUE(counted) << text << ": " << counted.error().message;
    EXPECT_EQ(*counted, count) << text;
  }
  for (const char* text : {"", "gpu:", "8,", "-1", "gpu:b200:x y", "99999999999"})
    EXPECT_FALSE(CountGpus("V", text)) << text;
  EXPECT_EQ(CountGpuIndices("V", "1"), 1);
  EXPECT_FALSE(CountGpuIndices("V", "3-1"));
}

TEST(SlurmTest, ComplaintsNameTheVariableWhatWasFoundAndWhatIsRight) {
  const auto complaint = [](const std::string& name, const std::string& value) {
    Environment e = {{"SLURM_JOB_NODELIST", "n[1-2]"}, {"SLURM_STEP_NODELIST", "n1"}};
    e[name] = value;
    return Slurm(e)[0];
  };
  EXPECT_THAT(complaint("SLURM_JOB_NODELIST", "n[1-"),
              HasSubstr("SLURM_JOB_NODELIST: a '[' without its ']' in 'n[1-'"));
  EXPECT_THAT(complaint("SLURM_JOB_NODELIST", "n1,n1"), HasSubstr("SLURM_JOB_NODELIST names n1 twice"));
  EXPECT_THAT(complaint("SLURM_STEP_NODELIST", "n["), HasSubstr("SLURM_STEP_NODELIST"));
  EXPECT_THAT(complaint("SLURM_STEP_TASKS_PER_NODE", "x"), HasSubstr("SLURM_STEP_TASKS_PER_NODE wants a whole number"));
  EXPECT_THAT(complaint("SLURM_STEP_ID", "one"), HasSubstr("SLURM_STEP_ID wants a whole number from 0"));
  EXPECT_THAT(complaint("SLURM_JOB_CPUS_PER_NODE", "8(x3)"),
              HasSubstr("SLURM_JOB_CPUS_PER_NODE is '8(x3)', counts for 3 nodes, and SLURM_JOB_NODELIST names 2"));
  EXPECT_THAT(complaint("SLURM_GPUS_PER_NODE", "many!"), HasSubstr("SLURM_GPUS_PER_NODE, a count of GPUs like"));
  EXPECT_THAT(complaint("SLURM_RESTART_COUNT", "-1"), HasSubstr("SLURM_RESTART_COUNT wants"));
  EXPECT_THAT(complaint("SLURM_JOB_END_TIME", "soon"), HasSubstr("SLURM_JOB_END_TIME wants"));
}

TEST(PbsTest, ComplaintsNameTheFileAndTheLine) {
  const auto pbs = [](const std::string& file) {
    return Nodes(PbsAllocation(Host({{"PBS_NODEFILE", "/p"}}, file)))[0];
  };
  EXPECT_EQ(pbs("n1\nn1\n"), "n1:2");
  EXPECT_THAT(pbs(""), HasSubstr("PBS_NODEFILE names a file that cannot be read: no file /p"));
  EXPECT_THAT(pbs("\n"), HasSubstr("PBS_NODEFILE /p names no host"));
  EXPECT_THAT(pbs("n1\nn 2\n"), HasSubstr("PBS_NODEFILE /p, line 2: 'n 2' is not one host name"));
  EXPECT_THAT(Nodes(PbsAllocation(Host({{"PBS_NODEFILE", "/p"}, {"PBS_NP", "x"}}, "n1")))[0],
              HasSubstr("PBS_NP wants"));
}

TEST(LsfTest, ReadsWhicheverListThereIs) {
  Environment e = {{"LSB_JOBID", "1"}};
  EXPECT_THAT(Nodes(LsfAllocation(Host(e)))[0], HasSubstr("LSB_JOBID is set, but none of LSB_MCPU_HOSTS, LSB_HOSTS"));
  e["LSB_DJOB_HOSTFILE"] = "/l";
  EXPECT_THAT(Nodes(LsfAllocation(Host(e, "c\nc\n"))), ElementsAre("c:2"));
  e["LSB_HOSTS"] = "b a b ";
  EXPECT_THAT(Nodes(LsfAllocation(Host(e))), ElementsAre("b:2", "a:1"));
  e["LSB_MCPU_HOSTS"] = "a 8 b 4 ";
  EXPECT_THAT(Nodes(LsfAllocation(Host(e))), ElementsAre("a:8", "b:4"));
  e["LSB_MCPU_HOSTS"] = "a 8 b";
  EXPECT_THAT(Nodes(LsfAllocation(Host(e)))[0], HasSubstr("LSB_MCPU_HOSTS wants a number behind every host"));
  e["LSB_MCPU_HOSTS"] = "a b";
  EXPECT_THAT(Nodes(LsfAllocation(Host(e)))[0], HasSubstr("LSB_MCPU_HOSTS: behind 'a' wants a whole number"));
}

TEST(KubeflowTest, OutsideOfKubernetesItIsTheHostfileOfOpenMpi) {
  const auto found = KubeflowAllocation(Host({{"OMPI_MCA_orte_default_hostfile", "/home/u/hosts"}}, "a slots=2\n"));
  ASSERT_TRUE(found && *found);
  EXPECT_EQ((*found)->source, AllocationSource::kHostfile);
  EXPECT_FALSE((*found)->hosts_may_be_down);
}

TEST(KubeflowTest, ReadsTheMountedFileWhereNoVariableNamesIt) {
  EXPECT_THAT(Nodes(KubeflowAllocation(Host({{"K_MPI_JOB_ROLE", "launcher"}}, "a:2\n"))), ElementsAre("a:2"));
  EXPECT_THAT(Nodes(KubeflowAllocation(Host({{"K_MPI_JOB_ROLE", "launcher"}})))[0], HasSubstr("/etc/mpi/hostfile"));
  EXPECT_THAT(Nodes(KubeflowAllocation(Host({{"K_MPI_JOB_ROLE", "worker"}}, "a:2\n"))), ElementsAre("none"));
  EXPECT_THAT(Nodes(KubeflowAllocation(Host({{"PRTE_MCA_prte_default_hostfile", "none"}}, "a\n"))),
              ElementsAre("none"));
  EXPECT_THAT(Nodes(KubeflowAllocation(Host({{"HYDRA_HOST_FILE", "/etc/mpi/hostfile"}}, "a\nb:x\n")))[0],
              HasSubstr("HYDRA_HOST_FILE /etc/mpi/hostfile, line 2: slots of 'b' wants a whole number"));
}

}  // namespace
}  // namespace belay::launcher
