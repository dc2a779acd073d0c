// One rank's saving side: from tensors in memory to a sealed snapshot in belayd's staging memory. Knows nothing of
// torch.
//
// Life of a save:   Begin(step) -> Copy() -> Seal(...)     A Begin after an unsealed Begin gives that one up.
// Begin is cheap, Copy is the work, both may run on another thread than the training loop, one save at a time. The copy
// and the chunk digests are made in one pass over file order, while each chunk is in cache. How bytes reach the staging
// memory is the Copier's business: memcpy here, CUDA in runtime/cuda.
//
// Where the daemon still writes the snapshot before, and has room for another, the next one goes to another buffer of
// the staging memory: so a save may begin while earlier ones wait for their commit.
//
// If the daemon has gone, Begin connects and attaches again (a new daemon gives new memory).
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/client/client.h"
#include "checkpoint/format/deal.h"
#include "checkpoint/format/digest.h"
#include "checkpoint/format/shard_file.h"

namespace belay::checkpoint {

// Where the bytes of one ShardEntry come from: contiguous row-major bytes of the entry's box.
struct Source {
  const std::byte* data = nullptr;  // host or device memory
  std::uint64_t bytes = 0;
};

// Carries bytes into staging memory. Begin is told of all copies, in file order and cut at digest chunks (4 MiB), and
// may start them beside the caller. Then each chunk's copies are landed, in any order and by several threads at once.
class Copier {
 public:
  using Copy = CopyPiece;
  virtual ~Copier() = default;
  // Called once for each new staging mapping, before any copy (CUDA registers it), and before it is unmapped.
  virtual base::Status Register(std::span<std::byte> staging) = 0;
  virtual void Unregister(std::span<std::byte> staging) = 0;
  virtual base::Status Begin(std::span<const Copy> copies) = 0;
  // Returns once copies `first` to `last`, which fill one chunk, have landed: with the digest of what has arrived.
  virtual base::Result<ChunkDigest> Land(std::size_t first, std::size_t last) = 0;
  // After a failure: returns when nothing writes into the staging memory any more. Nobody is in Land.
  virtual void Settle() = 0;
};
// Copies and digests in Land, so that a chunk's bytes pass through the core's cache once.
std::unique_ptr<Copier> MakeMemoryCopier();

struct SnapshotterOptions {
  std::string socket;
  AttachRequest attach;  // staging_bytes, window_bytes_min and layout_fingerprint are filled in
  ShardIdentity identity;
  std::string program = "trainer";  // as the daemon's log names this connection
  // Threads that copy and digest beside the training loop; 0: one to four, by the cores that each rank has.
  int threads = 0;
};

class Snapshotter {
 public:
  // `sources[f][e]` feeds entry e of file f of `plans`; the pointers must stay valid for the Snapshotter's life.
  static base::Result<std::unique_ptr<Snapshotter>> Create(base::Transport& transport, base::Clock& clock,
                                                           std::unique_ptr<Copier> copier, SnapshotterOptions options,
                                                           std::string layout_fingerprint, std::vector<ShardPlan> plans,
                                                           std::vector<std::vector<Source>> sources);
  virtual ~Snapshotter() = default;

  // kBusy: the daemon still writes the snapshot before. kUnavailable: no daemon answers; the next Begin tries again.
  // kNoSpace, kStaleGeneration and the other errors of Attach and BeginSnapshot as they come.
  virtual base::Status Begin(base::Step step, const std::string& reason) = 0;
  struct CopyRequest {
    // Asked at the end, if given; false abandons the snapshot: kSnapshotTorn.
    std::function<bool()> unchanged;
    // Nobody has written to the frozen tensors since the last Copy, as far as the caller knows.
    bool frozen_unchanged = false;
  };
  // Copies and digests everything; of frozen files that are in the staging memory already only a probe is taken. One
  // that has changed all the same abandons the snapshot (kSnapshotTorn), and the next ones copy everything.
  virtual base::Status Copy(const CopyRequest& request) = 0;
  virtual base::Status Seal(const Records& records, const std::map<std::string, double>& metrics,
                            std::optional<base::Step> parent_step) = 0;
  // Gives up what Begin or Copy began, because another rank could not; nothing to give up is fine.
  virtual base::Status Abandon(const std::string& why) = 0;
  // Any thread. If the daemon went away after Seal, looks up whether the step was committed: kCommitted, else
  // kUnavailable.
  virtual base::Result<SnapshotOutcome> Wait(base::Step step, base::Duration deadline) = 0;
  virtual std::uint64_t StagingBytes() const = 0;
  // The memory budget has no room for the whole state: it passes through a window in waves, so Copy lasts as long as
  // the disk takes, and the save is restorable once it is committed, never from memory.
  virtual bool InWaves() const = 0;
  // Returns once the pages of the staging memory are in place, as they are soon after Create. For measurements.
  virtual void AwaitTouched() = 0;
};

}  // namespace belay::checkpoint
