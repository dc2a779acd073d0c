// One rank's share of a checkpoint: from its staging memory to synced files under their final names.
#pragma once

#include <span>

#include "checkpoint/commit/actions.h"
#include "checkpoint/commit/events.h"
#include "checkpoint/index/folders.h"
#include "runtime/base/clock.h"
#include "runtime/base/file_system.h"

namespace belay::checkpoint {

// Blocks; any thread; several ranks of one checkpoint at once. `staging` belongs to a program we do not trust: headers
// are copied out before they are read. The event carries the inspected files also when only the disk failed.
commit::WriteFinished WriteRankFiles(base::FileSystem& files, base::Clock& clock, const index::Folders& folders,
                                     const commit::StartWrite& order, std::span<const std::byte> staging);

// A piece of a file that does not fit into the staging memory as a whole, to its temporary name. The pieces
// of a file come one after the other. WriteRankFiles adds the header, syncs the file and gives it its name.
commit::WaveFinished WriteWaveOf(base::FileSystem& files, const index::Folders& folders,
                                 const commit::WriteWavePiece& order, std::span<const std::byte> staging);

}  // namespace belay::checkpoint
