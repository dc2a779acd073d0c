// Which hosts a run may use, and who says so: a batch system, a person or nobody. Pure; the parsers beside this header
// make one from an environment, a hostfile or a host list.
//
// Invariants of every Allocation that a parser answers with: 1 to kNodesMax nodes, each with a name of its own that
// passes IsHostName and 1 to kSlotsMax slots, in the order in which ranks are dealt to them. Numbers that nobody gave
// are absent, not zero. The limits keep hostile input ("n[0-999999999]") from taking memory.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/base/result.h"

namespace belay::launcher {

constexpr std::size_t kNodesMax = 10'000;
constexpr std::int32_t kSlotsMax = 100'000;  // of one node
constexpr std::size_t kHostNameSizeMax = 253;

enum class AllocationSource : std::uint8_t {
  kHostList,     // --host
  kHostfile,     // --hostfile, or the one that Open MPI is told to use by default
  kSlurm,        // SLURM_JOB_NODELIST
  kPbs,          // PBS_NODEFILE (PBS Pro, OpenPBS, Torque)
  kLsf,          // LSB_MCPU_HOSTS and its like
  kKubeflow,     // the hostfile of the Kubeflow MPI operator
  kThisMachine,  // nobody says anything
};
// "slurm", as in JSON.
std::string_view Name(AllocationSource source);

struct Node {
  std::string name;
  std::int32_t slots = 1;             // ranks it may take
  std::optional<std::int32_t> gpus;   // granted to the job
  std::optional<std::int32_t> cores;  // granted to the job
  bool operator==(const Node&) const = default;
};

struct Allocation {
  AllocationSource source = AllocationSource::kThisMachine;
  std::string said_by;  // the variable, option or file that names the nodes
  std::vector<Node> nodes;
  std::optional<std::size_t> this_node;            // index of this host's; a login node has none
  std::string job_id;                              // the batch system's; empty where there is none
  std::optional<std::int64_t> time_limit_seconds;  // of the job, from its start
  std::optional<std::int64_t> end_time;            // seconds since 1970, UTC
  std::optional<std::int32_t> restart_count;       // how often the batch system has started the job again
  bool hosts_may_be_down = false;                  // names may not resolve yet: wait for them, with a bound
  std::vector<std::string> notes;                  // what looks odd and was not refused, for people
};

std::int64_t TotalSlots(const Allocation& allocation);

// What the parsers depend on, so that a test can make it up.
struct AllocationHost {
  std::map<std::string, std::string> environment;
  std::string host_name;
  std::int32_t gpus = 0;
  std::int32_t cores = 1;
  std::function<base::Result<std::string>(const std::string& path)> read_file;
};

// Letters, digits, '.', '-' and '_', begun by a letter or digit: a name that begins with '-' would be an option to ssh.
// Or an IPv6 address without brackets.
bool IsHostName(std::string_view name);

// Whether a person who writes `name` means the host called `host_name`: localhost, its addresses, its full or first
// name.
bool IsThisHost(std::string_view name, const std::string& host_name);

// Index of this host's node. Batch systems and hosts do not agree on writing the domain, so where no name is the host's
// own, one with the same first label counts, if there is but one.
std::optional<std::size_t> FindThisHost(const std::vector<Node>& nodes, const std::string& host_name);

// Collects nodes within the limits. Repeated names add up. `where` begins every complaint: "PBS_NODEFILE /f, line 3".
class NodeCollector {
 public:
  base::Status Add(std::string_view where, std::string_view name, std::int32_t slots);
  // kInvalidArgument if there is none.
  base::Result<std::vector<Node>> Take(std::string_view where) &&;

 private:
  std::vector<Node> nodes_;
  std::unordered_map<std::string, std::size_t> index_by_name_;
};

}  // namespace belay::launcher
