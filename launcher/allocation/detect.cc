#include "launcher/allocation/detect.h"

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
using Reader = base::Result<std::optional<Allocation>> (*)(const AllocationHost&);

struct System {
  std::string_view title;
  Reader read;
  std::vector<std::string> variables;  // one of them set means that the system has something to say
};
const std::vector<System>& Systems() {
  static const std::vector<System> kSystems = {
      {"Slurm", SlurmAllocation, {"SLURM_JOB_NODELIST", "SLURM_NODELIST"}},
      {"PBS", PbsAllocation, {"PBS_NODEFILE"}},
      {"LSF", LsfAllocation, {"LSB_JOBID"}},
      {"the MPI operator", KubeflowAllocation, {"K_MPI_JOB_ROLE"}},
  };
  return kSystems;
}

// What the systems from `first` on would have said.
void NoteOthers(const AllocationHost& host, std::size_t first, std::string_view winner, Allocation& allocation) {
  for (std::size_t i = first; i < Systems().size(); ++i) {
    const System& system = Systems()[i];
    for (const std::string& variable : system.variables) {
      const auto value = Variable(host.environment, variable);
      if (!value || (variable == "K_MPI_JOB_ROLE" && *value != "launcher")) continue;
      allocation.notes.push_back(Str(variable, " is set too; ", winner, " counts before ", system.title));
      break;
    }
  }
}

base::Result<Allocation> AskedAllocation(const AskedHosts& asked, const AllocationHost& host) {
  Allocation allocation;
  std::vector<HostEntry> entries;
  if (asked.hostfile) {
    allocation.source = AllocationSource::kHostfile;
    allocation.said_by = Str("--hostfile ", Printable(*asked.hostfile));
    BELAY_ASSIGN(const std::string text, host.read_file(*asked.hostfile));
    BELAY_ASSIGN(entries, ParseHostfile(text, {.where = allocation.said_by}));
  } else {
    allocation.source = AllocationSource::kHostList;
    allocation.said_by = "--host";
    for (const std::string& list : asked.host_lists) {
      BELAY_ASSIGN(const auto more, ParseHostList(list, {.where = allocation.said_by}));
      entries.insert(entries.end(), more.begin(), more.end());
    }
  }
  BELAY_ASSIGN(allocation.nodes, NodesOf(entries, allocation.said_by));
  allocation.this_node = FindThisHost(allocation.nodes, host.host_name);
  return allocation;
}

Allocation ThisMachine(const AllocationHost& host) {
  Allocation allocation;
  allocation.said_by = "no batch system and no option names hosts";
  // A host may call itself anything; ranks on it are reached as localhost in any case.
  Node node = {IsHostName(host.host_name) ? host.host_name : "localhost", std::clamp(host.gpus, 1, kSlotsMax),
               std::nullopt, std::max(1, host.cores)};
  if (host.gpus > 0) node.gpus = host.gpus;
  allocation.nodes.push_back(std::move(node));
  allocation.this_node = 0;
  return allocation;
}

}  // namespace

base::Result<Allocation> DetectAllocation(const AskedHosts& asked, const AllocationHost& host) {
  if (asked.hostfile && !asked.host_lists.empty()) {
    return Fail(Code::kInvalidArgument, "give --host or --hostfile, not both");
  }
  if (asked.hostfile || !asked.host_lists.empty()) {
    BELAY_ASSIGN(Allocation allocation, AskedAllocation(asked, host));
    NoteOthers(host, 0, asked.hostfile ? "--hostfile" : "--host", allocation);
    return allocation;
  }
  for (std::size_t i = 0; i < Systems().size(); ++i) {
    BELAY_ASSIGN(auto found, Systems()[i].read(host));
    if (!found) continue;
    NoteOthers(host, i + 1, Systems()[i].title, *found);
    return std::move(*found);
  }
  return ThisMachine(host);
}

}  // namespace belay::launcher
