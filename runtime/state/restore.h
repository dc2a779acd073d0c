// Loading a checkpoint into the program's objects.
#pragma once

#include <cstdint>

#include "checkpoint/client/restorer.h"
#include "runtime/base/units.h"
#include "runtime/state/state_set.h"

namespace belay::runtime {

struct RestoreOptions {
  std::int32_t world_size = 1;
  int threads = 1;
  std::uint64_t bounce_bytes = 64 * base::kMiB;
};

// All of `state` from the opened checkpoint. CPU tensors are read into in place; CUDA and non-contiguous ones, piece by
// piece, through one bounce buffer of `bounce_bytes` at most. Per-rank tensors and records of a rank that the saved run
// did not have: the tensor keeps what the program made, the record is that of rank (own mod saved world size).
// kLayoutMismatch names what differs, up to five things; with the saved world size that includes this rank's tensors
// and records that the program does not add, since going on without them would not be exact. kCorrupt, kIncomplete and
// the other errors of Restorer as they come. After an error the state is undefined: load another checkpoint or stop.
base::Result<checkpoint::RestoreStatistics> RestoreState(StateSet& state, checkpoint::Restorer& restorer,
                                                         const RestoreOptions& options);

}  // namespace belay::runtime
