// Who says which hosts a run may use. Pure but for read_file.
//
// The first that says anything counts: --host or --hostfile, Slurm, PBS, LSF, the Kubeflow MPI operator or the default
// hostfile of Open MPI, this machine. Systems are not mixed. What speaks and is passed over is named in a note; what
// speaks and cannot be made out is an error, and nobody further down is asked. README.md says why in this order.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launcher/allocation/allocation.h"
#include "runtime/base/result.h"

namespace belay::launcher {

struct AskedHosts {
  std::vector<std::string> host_lists;  // --host, once a mention
  std::optional<std::string> hostfile;  // --hostfile, an absolute path
};
base::Result<Allocation> DetectAllocation(const AskedHosts& asked, const AllocationHost& host);

// For people: "allocation", "nodes" (a line for each row of equal nodes) and "note", each with its text.
std::vector<std::pair<std::string, std::string>> DescribeAllocation(const Allocation& allocation);

}  // namespace belay::launcher
