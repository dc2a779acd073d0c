// One reader for each system that grants hosts. Each answers no value where its system does not run the process, and
// kInvalidArgument (or read_file's error) where it does but what it says cannot be made out: a wrong word of the batch
// system must never turn into a run on this machine alone. detect.h puts them in order. Pure but for read_file.
#pragma once

#include <optional>

#include "launcher/allocation/allocation.h"
#include "runtime/base/result.h"

namespace belay::launcher {

// SLURM_JOB_NODELIST (or SLURM_NODELIST) and SLURM_TASKS_PER_NODE; within a step of srun the step's nodes and tasks.
// See README.md for when a step narrows the job.
base::Result<std::optional<Allocation>> SlurmAllocation(const AllocationHost& host);

// PBS_NODEFILE: a line a slot.
base::Result<std::optional<Allocation>> PbsAllocation(const AllocationHost& host);

// LSB_MCPU_HOSTS ("a 8 b 8"), else LSB_HOSTS ("a a b"), else LSB_DJOB_HOSTFILE (a line a slot).
base::Result<std::optional<Allocation>> LsfAllocation(const AllocationHost& host);

// The hostfile that the MPI operator mounts into the launcher's pod. Outside of Kubernetes the same variables name the
// default hostfile of an Open MPI, and the source is kHostfile.
base::Result<std::optional<Allocation>> KubeflowAllocation(const AllocationHost& host);

}  // namespace belay::launcher
