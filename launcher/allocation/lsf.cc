#include <algorithm>

#include "launcher/allocation/batch_systems.h"
#include "launcher/allocation/hostfile.h"
#include "launcher/allocation/value.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::Fail;
using base::Str;
using base::Wrap;

constexpr const char* kCounted = "LSB_MCPU_HOSTS";
constexpr const char* kListed = "LSB_HOSTS";
constexpr const char* kFile = "LSB_DJOB_HOSTFILE";

// "a 8 b 8"
base::Result<std::vector<Node>> CountedHosts(std::string_view text) {
  const std::vector<std::string_view> words = Words(text);
  NodeCollector nodes;
  for (std::size_t i = 0; i < words.size(); i += 2) {
    if (i + 1 == words.size()) {
      return Fail(Code::kInvalidArgument, kCounted, " wants a number behind every host, and there is none behind ",
                  Quoted(words[i]));
    }
    BELAY_ASSIGN(const std::int64_t slots,
                 WholeNumber(Str(kCounted, ": behind ", Quoted(words[i])), words[i + 1], 1, kSlotsMax));
    BELAY_TRY(nodes.Add(kCounted, words[i], static_cast<std::int32_t>(slots)));
  }
  return std::move(nodes).Take(kCounted);
}

// "a a b"
base::Result<std::vector<Node>> ListedHosts(std::string_view text) {
  NodeCollector nodes;
  for (const std::string_view word : Words(text)) BELAY_TRY(nodes.Add(kListed, word, 1));
  return std::move(nodes).Take(kListed);
}

// Some clusters run the job's script on a launch node of its own, which comes first and has one slot. IBM's CSM is
// known to; elsewhere one cannot tell such a node from an ordinary one that had a single slot left.
void LookForLaunchNode(const AllocationHost& host, Allocation& allocation) {
  std::vector<Node>& nodes = allocation.nodes;
  if (nodes.size() < 2 || nodes[0].slots != 1) return;
  const std::string name = nodes[0].name;
  if (Variable(host.environment, "CSM_ALLOCATION_ID")) {
    nodes.erase(nodes.begin());
    allocation.notes.push_back(Str(name, " is the launch node (CSM_ALLOCATION_ID is set) and takes no ranks"));
  } else if (std::ranges::all_of(nodes.begin() + 1, nodes.end(), [](const Node& node) { return node.slots > 1; })) {
    allocation.notes.push_back(
        Str("the first host, ", name,
            ", has one slot and the others more: if it is a launch node, give the others with --host"));
  }
}

}  // namespace

base::Result<std::optional<Allocation>> LsfAllocation(const AllocationHost& host) {
  const auto job = Variable(host.environment, "LSB_JOBID");
  if (!job) return std::optional<Allocation>();
  Allocation allocation;
  allocation.source = AllocationSource::kLsf;
  // LSF leaves LSB_HOSTS out where it gets too long.
  if (const auto counted = Variable(host.environment, kCounted)) {
    allocation.said_by = kCounted;
    BELAY_ASSIGN(allocation.nodes, CountedHosts(*counted));
  } else if (const auto listed = Variable(host.environment, kListed)) {
    allocation.said_by = kListed;
    BELAY_ASSIGN(allocation.nodes, ListedHosts(*listed));
  } else if (const auto path = Variable(host.environment, kFile)) {
    allocation.said_by = Str(kFile, " ", Printable(*path));
    const auto text = host.read_file(*path);
    if (!text) return Wrap(text.error(), kFile, " names a file that cannot be read");
    BELAY_ASSIGN(allocation.nodes, NodesFromLines(allocation.said_by, *text));
  } else {
    return Fail(Code::kInvalidArgument, "LSB_JOBID is set, but none of ", kCounted, ", ", kListed, " and ", kFile,
                ": the job's hosts are unknown; give them with --host, or unset LSB_JOBID");
  }
  LookForLaunchNode(host, allocation);
  allocation.this_node = FindThisHost(allocation.nodes, host.host_name);
  allocation.job_id = Printable(*job);
  if (const auto index = Variable(host.environment, "LSB_JOBINDEX"); index && *index != "0") {
    allocation.job_id += Str("[", Printable(*index), "]");
  }
  return std::optional(std::move(allocation));
}

}  // namespace belay::launcher
