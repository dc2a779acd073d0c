// The scrubber's hands: reads one file of a committed checkpoint and holds it against the manifest; writes one anew
// from memory. Blocking; one thread.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "checkpoint/commit/actions.h"
#include "checkpoint/commit/events.h"
#include "checkpoint/daemon/background_gate.h"
#include "checkpoint/daemon/scrub_plan.h"
#include "checkpoint/format/manifest.h"
#include "runtime/base/file_system.h"

namespace belay::checkpoint {

// Reads `path` whole. kCorrupt, kIncomplete: it is not what the manifest says, and where; kCancelled: the gate closed.
base::Status CheckFile(base::FileSystem& files, const std::string& path, const ManifestFile& expected,
                       const Passage& passage);

ScrubResult Scrub(base::FileSystem& files, const std::string& directory, const ScrubOrder& order, BackgroundGate& gate);

// Under a temporary name, synced, read back and checked; only then in place of the damaged one. `staging`: the rank's
// memory, which may change meanwhile: then what was written does not match and is thrown away. So it does not wait for
// the rate.
commit::RepairFinished Repair(base::FileSystem& files, const std::string& directory, const commit::RepairFile& order,
                              std::span<const std::byte> staging, BackgroundGate& gate);

}  // namespace belay::checkpoint
