#include "launcher/allocation/batch_systems.h"
#include "launcher/allocation/hostfile.h"
#include "launcher/allocation/value.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;
using base::Wrap;

constexpr std::int64_t kTasksMax = static_cast<std::int64_t>(kNodesMax) * kSlotsMax;

}  // namespace

base::Result<std::optional<Allocation>> PbsAllocation(const AllocationHost& host) {
  const auto path = Variable(host.environment, "PBS_NODEFILE");
  if (!path) return std::optional<Allocation>();
  Allocation allocation;
  allocation.source = AllocationSource::kPbs;
  allocation.said_by = Str("PBS_NODEFILE ", Printable(*path));
  const auto text = host.read_file(*path);
  if (!text) return Wrap(text.error(), "PBS_NODEFILE names a file that cannot be read");
  BELAY_ASSIGN(allocation.nodes, NodesFromLines(allocation.said_by, *text));
  allocation.this_node = FindThisHost(allocation.nodes, host.host_name);
  allocation.job_id = Printable(Variable(host.environment, "PBS_JOBID").value_or(""));
  // Torque's; the file counts, because that is what mpirun goes by.
  BELAY_ASSIGN(const auto tasks, NumberVariable(host.environment, "PBS_NP", 1, kTasksMax));
  if (tasks && *tasks != TotalSlots(allocation)) {
    allocation.notes.push_back(
        Str("PBS_NP says ", *tasks, " and PBS_NODEFILE has ", TotalSlots(allocation), " lines: the file counts"));
  }
  // PBS Pro's, for the node it is read on.
  BELAY_ASSIGN(const auto cores, NumberVariable(host.environment, "NCPUS", 1, 1'000'000));
  if (cores && allocation.this_node) {
    allocation.nodes[*allocation.this_node].cores = static_cast<std::int32_t>(*cores);
  }
  BELAY_ASSIGN(allocation.time_limit_seconds, NumberVariable(host.environment, "PBS_WALLTIME", 0, INT32_MAX));
  return std::optional(std::move(allocation));
}

}  // namespace belay::launcher
