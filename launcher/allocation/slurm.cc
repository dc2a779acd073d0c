#include <algorithm>
#include <unordered_map>

#include "launcher/allocation/batch_systems.h"
#include "launcher/allocation/gpu_count.h"
#include "launcher/allocation/hostlist.h"
#include "launcher/allocation/value.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::Fail;
using base::Str;
using Environment = std::map<std::string, std::string>;
using Names = std::vector<std::string>;

constexpr std::int32_t kCoresMax = 1'000'000;        // of a node
constexpr std::int64_t kTimeMax = 253'402'300'799;   // the last second of the year 9999
constexpr std::int64_t kNormalStepMax = 0xFFFFFFF0;  // SLURM_MAX_NORMAL_STEP_ID; above are batch, interactive, extern

struct NodeNames {
  std::string variable;
  Names names;
};
base::Result<std::optional<NodeNames>> NamesIn(const Environment& environment,
                                               std::initializer_list<const char*> variables) {
  for (const char* const variable : variables) {
    const auto text = Variable(environment, variable);
    if (!text) continue;
    BELAY_ASSIGN(Names names, ExpandHostlist(variable, *text));
    Names sorted = names;
    std::ranges::sort(sorted);
    if (const auto twice = std::ranges::adjacent_find(sorted); twice != sorted.end()) {
      return Fail(Code::kInvalidArgument, variable, " names ", *twice, " twice");
    }
    return std::optional(NodeNames{variable, std::move(names)});
  }
  return std::optional<NodeNames>();
}

// One count for each node, or none if the variable is not set.
base::Result<std::vector<std::int32_t>> CountsIn(const Environment& environment, const char* variable,
                                                 const NodeNames& nodes, std::int32_t most) {
  const auto text = Variable(environment, variable);
  if (!text) return std::vector<std::int32_t>();
  BELAY_ASSIGN(std::vector<std::int32_t> counts, ExpandCounts(variable, *text, 1, most));
  if (counts.size() != nodes.names.size()) {
    return Fail(Code::kInvalidArgument, variable, " is ", Quoted(*text), ", counts for ", counts.size(), " nodes, and ",
                nodes.variable, " names ", nodes.names.size());
  }
  return counts;
}

// `total` tasks over `nodes` nodes, the first ones one more where it does not divide, as Slurm's block distribution.
std::vector<std::int32_t> Spread(std::int64_t total, std::size_t nodes) {
  std::vector<std::int32_t> counts;
  const auto count = static_cast<std::int64_t>(nodes);
  for (std::int64_t i = 0; i < count; ++i) {
    counts.push_back(static_cast<std::int32_t>(std::max<std::int64_t>(1, total / count + (i < total % count ? 1 : 0))));
  }
  return counts;
}

base::Result<std::vector<std::int32_t>> JobSlots(const Environment& environment, const NodeNames& nodes) {
  BELAY_ASSIGN(const auto counts, CountsIn(environment, "SLURM_TASKS_PER_NODE", nodes, kSlotsMax));
  if (!counts.empty()) return counts;
  BELAY_ASSIGN(const auto per_node, NumberVariable(environment, "SLURM_NTASKS_PER_NODE", 1, kSlotsMax));
  if (per_node) return std::vector<std::int32_t>(nodes.names.size(), static_cast<std::int32_t>(*per_node));
  const std::int64_t most = static_cast<std::int64_t>(nodes.names.size()) * kSlotsMax;
  BELAY_ASSIGN(const auto total, NumberVariable(environment, "SLURM_NTASKS", 1, most));
  return Spread(total.value_or(0), nodes.names.size());
}

// The nodes of the step this process runs in, if the step narrows the job; README.md says when.
base::Result<std::optional<NodeNames>> StepNodes(const Environment& environment, const NodeNames& job,
                                                 std::vector<std::string>& notes) {
  BELAY_ASSIGN(auto step, NamesIn(environment, {"SLURM_STEP_NODELIST"}));
  if (!step) return step;
  const char* const id_variable = Variable(environment, "SLURM_STEP_ID") ? "SLURM_STEP_ID" : "SLURM_STEPID";
  BELAY_ASSIGN(const auto id, NumberVariable(environment, id_variable, 0, UINT32_MAX));
  if (id && *id > kNormalStepMax) return std::optional<NodeNames>();
  Names granted = job.names;
  std::ranges::sort(granted);
  for (const std::string& name : step->names) {
    if (std::ranges::binary_search(granted, name)) continue;
    notes.push_back(Str("SLURM_STEP_NODELIST names ", name, ", which ", job.variable,
                        " does not: taken for a step that this job was submitted from, and left aside"));
    return std::optional<NodeNames>();
  }
  const auto tasks = Variable(environment, "SLURM_TASKS_PER_NODE");
  const auto step_tasks = Variable(environment, "SLURM_STEP_TASKS_PER_NODE");
  if (tasks && step_tasks && *tasks != *step_tasks) {
    notes.push_back(Str("SLURM_STEP_TASKS_PER_NODE is ", Quoted(*step_tasks), " and SLURM_TASKS_PER_NODE ",
                        Quoted(*tasks), ": taken for a step that this job was submitted from, and left aside"));
    return std::optional<NodeNames>();
  }
  return step;
}

base::Result<std::vector<std::int32_t>> StepSlots(const Environment& environment, const NodeNames& step) {
  BELAY_ASSIGN(const auto counts, CountsIn(environment, "SLURM_STEP_TASKS_PER_NODE", step, kSlotsMax));
  if (!counts.empty()) return counts;
  const std::int64_t most = static_cast<std::int64_t>(step.names.size()) * kSlotsMax;
  BELAY_ASSIGN(const auto total, NumberVariable(environment, "SLURM_STEP_NUM_TASKS", 1, most));
  return Spread(total.value_or(0), step.names.size());
}

// SLURM_GPUS_PER_NODE is what was asked for on every node; the others speak of the node they are read on.
base::Status AddGpus(const Environment& environment, Allocation& allocation) {
  if (const auto text = Variable(environment, "SLURM_GPUS_PER_NODE")) {
    BELAY_ASSIGN(const std::int32_t count, CountGpus("SLURM_GPUS_PER_NODE", *text));
    for (Node& node : allocation.nodes) node.gpus = count;
    return {};
  }
  if (!allocation.this_node) return {};
  std::optional<std::int32_t>& gpus = allocation.nodes[*allocation.this_node].gpus;
  if (const auto text = Variable(environment, "SLURM_GPUS_ON_NODE")) {
    BELAY_ASSIGN(gpus, CountGpus("SLURM_GPUS_ON_NODE", *text));
  } else if (const auto indices = Variable(environment, "SLURM_JOB_GPUS")) {
    if (indices->find("gpu") != std::string::npos) {
      BELAY_ASSIGN(gpus, CountGpus("SLURM_JOB_GPUS", *indices));
    } else {
      BELAY_ASSIGN(gpus, CountGpuIndices("SLURM_JOB_GPUS", *indices));
    }
  }
  return {};
}

// A node may be called otherwise in Slurm than the host calls itself; SLURMD_NODENAME knows.
std::optional<std::size_t> ThisNode(const AllocationHost& host, const std::vector<Node>& nodes) {
  if (const auto name = Variable(host.environment, "SLURMD_NODENAME")) {
    const auto found = std::ranges::find(nodes, *name, &Node::name);
    if (found != nodes.end()) return static_cast<std::size_t>(found - nodes.begin());
  }
  return FindThisHost(nodes, host.host_name);
}

base::Status AddJob(const Environment& environment, Allocation& allocation) {
  const auto id = Variable(environment, Variable(environment, "SLURM_JOB_ID") ? "SLURM_JOB_ID" : "SLURM_JOBID");
  allocation.job_id = Printable(id.value_or(""));
  BELAY_ASSIGN(const auto restarts, NumberVariable(environment, "SLURM_RESTART_COUNT", 0, INT32_MAX));
  if (restarts) allocation.restart_count = static_cast<std::int32_t>(*restarts);
  BELAY_ASSIGN(const auto start, NumberVariable(environment, "SLURM_JOB_START_TIME", 0, kTimeMax));
  BELAY_ASSIGN(const auto end, NumberVariable(environment, "SLURM_JOB_END_TIME", 0, kTimeMax));
  if (end && *end > 0) allocation.end_time = end;
  if (start && end && *end > *start) allocation.time_limit_seconds = *end - *start;
  if (const auto parts = Variable(environment, "SLURM_HET_SIZE"); parts && *parts != "1") {
    allocation.notes.push_back(Str("a heterogeneous job of ", Quoted(*parts), " components: only the one that ",
                                   allocation.said_by, " names is used"));
  }
  return {};
}

}  // namespace

base::Result<std::optional<Allocation>> SlurmAllocation(const AllocationHost& host) {
  const Environment& environment = host.environment;
  BELAY_ASSIGN(const auto job, NamesIn(environment, {"SLURM_JOB_NODELIST", "SLURM_NODELIST"}));
  if (!job) return std::optional<Allocation>();
  Allocation allocation;
  allocation.source = AllocationSource::kSlurm;
  BELAY_ASSIGN(const auto step, StepNodes(environment, *job, allocation.notes));
  const NodeNames& nodes = step ? *step : *job;
  BELAY_ASSIGN(const auto slots, step ? StepSlots(environment, *step) : JobSlots(environment, *job));
  BELAY_ASSIGN(const auto cores, CountsIn(environment, "SLURM_JOB_CPUS_PER_NODE", *job, kCoresMax));
  std::unordered_map<std::string, std::int32_t> cores_by_name;
  for (std::size_t i = 0; i < cores.size(); ++i) cores_by_name[job->names[i]] = cores[i];
  for (std::size_t i = 0; i < nodes.names.size(); ++i) {
    Node node = {nodes.names[i], slots[i], std::nullopt, std::nullopt};
    if (const auto found = cores_by_name.find(node.name); found != cores_by_name.end()) node.cores = found->second;
    allocation.nodes.push_back(std::move(node));
  }
  allocation.said_by = nodes.variable;
  allocation.this_node = ThisNode(host, allocation.nodes);
  BELAY_TRY(AddGpus(environment, allocation));
  BELAY_TRY(AddJob(environment, allocation));
  return std::optional(std::move(allocation));
}

}  // namespace belay::launcher
