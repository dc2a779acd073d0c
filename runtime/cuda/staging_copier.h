// The Copier for tensors on a GPU: device to staging memory on a side stream, beside the next forward and backward
// pass.
//
//   training stream   ...step k | mark | forward, backward of k+1 ...      | await copies | update of k+1
//   side stream                  \-await mark | copies, an event each 4 MiB | last event -/
//   worker threads                            await event i, digest chunk i
//
// The training thread never waits for bytes, only (in GuardUpdate) for the copies to have been put into the side
// stream. MarkStepEnd and TakeStreamWait: training thread. GuardUpdate: that too, or the engine's thread of a device
// while the training thread is inside backward() (see backward_hook.h); never two at once. CopyEnded: any thread. The
// rest: whoever runs Snapshotter::Copy.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "checkpoint/client/snapshotter.h"
#include "runtime/cuda/copy_engine.h"

namespace belay::runtime {

class StagingCopier final : public checkpoint::Copier {
 public:
  explicit StagingCopier(std::unique_ptr<CopyEngine> engine) : engine_(std::move(engine)) {}

  // At the end of the step, before the save is handed to its worker. CopyEnded() must follow, whatever happens to the
  // save: GuardUpdate waits for a Begin until then.
  base::Status MarkStepEnd();
  // The marked save's copy has ended, or does not take place. If it never came to Begin, nobody waits for one any more.
  void CopyEnded();
  // Before the next update may be issued: the training stream waits for all copies. Nothing to do if none are under
  // way. On an error the caller must take the snapshot for torn.
  base::Status GuardUpdate();
  // How long (in seconds) the training stream stood still for the last GuardUpdate that had something to wait for:
  // once, as soon as the stream has passed there, which the host does not wait for.
  std::optional<double> TakeStreamWait();

  base::Status Register(std::span<std::byte> staging) override { return engine_->RegisterHost(staging); }
  void Unregister(std::span<std::byte> staging) override { engine_->UnregisterHost(staging); }
  base::Status Begin(std::span<const Copy> copies) override;
  base::Result<checkpoint::ChunkDigest> Land(std::size_t first, std::size_t last) override;
  void Settle() override;

 private:
  // Puts everything into the side stream; fills events_.
  base::Status Issue(std::span<const Copy> copies);

  // Tensors below this size are packed; larger ones go alone, since a launch costs less than their transfer.
  static constexpr std::uint64_t kSmallBytes = 256ULL * 1024;

  enum class Stage { kIdle, kMarked, kIssued, kFailed };
  std::unique_ptr<CopyEngine> engine_;
  std::mutex mutex_;  // guards the stage
  std::condition_variable changed_;
  Stage stage_ = Stage::kIdle;
  std::size_t event_count_ = 0;
  bool waits_ = false;  // GuardUpdate made the stream wait, and nobody took for how long
  // Written by Begin, before any Land.
  std::vector<Copy> copies_;
  std::vector<std::size_t> event_of_copy_;
};

}  // namespace belay::runtime
