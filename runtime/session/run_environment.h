// What the launcher said in the environment, read and checked in one place.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "runtime/base/result.h"
#include "runtime/session/session_state.h"

namespace belay::runtime {

using Variables = std::map<std::string, std::string>;

// BELAY_PROJECT, BELAY_JOB, BELAY_GENERATION, ... kInvalidArgument on a number that is none.
base::Result<detail::RunEnvironment> ReadRunEnvironment(const Variables& variables);

// Where a launcher says this process stands, as far as it does: torchrun's names (RANK, LOCAL_RANK, ...), else Open
// MPI's (OMPI_COMM_WORLD_RANK, ...). `rank_name` is the variable that named the rank, for messages.
struct ClaimedPlace {
  std::optional<int> rank, world_size, local_rank, local_world_size, node_rank;
  std::string rank_name;
};
base::Result<ClaimedPlace> ReadClaimedPlace(const Variables& variables);

// MPI's word on rank and world, which counts, against the launcher's: kInvalidArgument if they differ, as when a
// program is started by torchrun, whose ranks MPI does not know.
base::Status CheckPlace(const ClaimedPlace& claimed, int mpi_rank, int mpi_size);

}  // namespace belay::runtime
