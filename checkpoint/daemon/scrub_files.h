// The scrubber's hands: reads one file of a committed checkpoint and holds it against the manifest; writes one anew
// from memory. Blocking; one thread.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>

#include "checkpoint/commit/actions.h"
#include "checkpoint/commit/events.h"
#include "checkpoint/daemon/scrub_plan.h"
#include "checkpoint/format/manifest.h"
#include "runtime/base/file_system.h"
#include "runtime/base/pace.h"

namespace belay::checkpoint {

// Holds the reading thread back: to a rate, while somebody saves or restores, and for good when the daemon leaves.
class ScrubGate {
 public:
  ScrubGate(base::Clock& clock, std::uint64_t bytes_per_second) : clock_(clock), pace_(bytes_per_second) {}
  // `bytes` are about to be read. False: read no more. The reading thread.
  bool Pass(std::uint64_t bytes);
  // Any thread.
  void SetPaused(bool paused);
  void Close();

 private:
  base::Clock& clock_;
  std::mutex mutex_;
  std::condition_variable changed_;
  base::Pace pace_;      // guarded by mutex_
  bool paused_ = false;  // guarded by mutex_
  bool closed_ = false;  // guarded by mutex_
};

// Reads `path` whole. kCorrupt, kIncomplete: it is not what the manifest says, and where; kCancelled: the gate closed.
base::Status CheckFile(base::FileSystem& files, const std::string& path, const ManifestFile& expected, ScrubGate& gate);

ScrubResult Scrub(base::FileSystem& files, const std::string& directory, const ScrubOrder& order, ScrubGate& gate);

// Under a temporary name, synced, read back and checked; only then in place of the damaged one. `staging`: the rank's
// memory, which may change meanwhile: then what was written does not match and is thrown away.
commit::RepairFinished Repair(base::FileSystem& files, const std::string& directory, const commit::RepairFile& order,
                              std::span<const std::byte> staging);

}  // namespace belay::checkpoint
