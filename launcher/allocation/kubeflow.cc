#include "launcher/allocation/batch_systems.h"
#include "launcher/allocation/hostfile.h"
#include "launcher/allocation/value.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;
using base::Wrap;

// Where the MPI operator mounts it (v1, v2beta1), and the variables that it sets for each MPI: Open MPI 4 and 5, Intel
// MPI, MPICH.
constexpr std::string_view kMounted = "/etc/mpi/hostfile";
constexpr const char* kVariables[] = {"OMPI_MCA_orte_default_hostfile", "PRTE_MCA_prte_default_hostfile",
                                      "I_MPI_HYDRA_HOST_FILE", "HYDRA_HOST_FILE"};
constexpr const char* kDefaultSlots = "OMPI_MCA_orte_set_default_slots";

}  // namespace

base::Result<std::optional<Allocation>> KubeflowAllocation(const AllocationHost& host) {
  const auto role = Variable(host.environment, "K_MPI_JOB_ROLE");
  std::string variable, path;
  for (const char* const name : kVariables) {
    const auto value = Variable(host.environment, name);
    if (!value || *value == "none") continue;  // Open MPI's word for no file
    variable = name;
    path = *value;
    break;
  }
  if (path.empty()) {
    if (role != "launcher") return std::optional<Allocation>();
    path = kMounted;
  }
  Allocation allocation;
  const bool in_kubernetes = role || path == kMounted || Variable(host.environment, "KUBERNETES_SERVICE_HOST");
  allocation.source = in_kubernetes ? AllocationSource::kKubeflow : AllocationSource::kHostfile;
  allocation.said_by = variable.empty() ? path : Str(variable, " ", Printable(path));
  const auto text = host.read_file(path);
  if (!text)
    return Wrap(text.error(), "the hostfile of ", variable.empty() ? "K_MPI_JOB_ROLE" : variable, " cannot be read");
  BELAY_ASSIGN(const auto slots, NumberVariable(host.environment, kDefaultSlots, 1, kSlotsMax));
  const HostRules rules = {
      .where = allocation.said_by, .slots_default = static_cast<std::int32_t>(slots.value_or(1)), .colon_counts = true};
  BELAY_ASSIGN(const auto entries, ParseHostfile(*text, rules));
  BELAY_ASSIGN(allocation.nodes, NodesOf(entries, rules.where));
  allocation.this_node = FindThisHost(allocation.nodes, host.host_name);
  allocation.hosts_may_be_down = in_kubernetes;
  return std::optional(std::move(allocation));
}

}  // namespace belay::launcher
