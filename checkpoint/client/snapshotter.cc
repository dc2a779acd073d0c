#include "checkpoint/client/snapshotter.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <future>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "checkpoint/client/kept_files.h"
#include "checkpoint/client/staging_buffers.h"
#include "checkpoint/client/staging_plan.h"
#include "checkpoint/client/wave_plan.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using base::Fail;
using base::Result;
using base::Status;

// Small states are not worth waking threads for.
constexpr std::uint64_t kBytesPerThread = 16 * base::kMiB;
constexpr int kThreadsMax = 4;
constexpr base::Duration kGiveUpWait = std::chrono::milliseconds(500);

int ThreadCount(const SnapshotterOptions& options, std::uint64_t bytes) {
  const auto by_size = static_cast<int>(std::min<std::uint64_t>(bytes / kBytesPerThread + 1, kThreadsMax));
  if (options.threads > 0) return std::min(options.threads, by_size);
  // Half of what the machine has for this rank: the copy runs beside the training step.
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  const int fair = cores / (2 * std::max(1, options.attach.world_size));
  return std::clamp(fair, 1, by_size);
}

// `work` on this thread and up to threads - 1 others; it goes on with fewer where the system has no more.
void RunWith(int threads, const std::function<void()>& work) {
  std::vector<std::jthread> helpers;
  try {
    for (int i = 1; i < threads; ++i) helpers.emplace_back(work);
  } catch (const std::system_error& error) {
    base::LogWarning("copying with fewer threads", {{"threads", helpers.size() + 1}, {"why", error.what()}});
  }
  work();
}

class StagedSnapshotter final : public Snapshotter {
 public:
  StagedSnapshotter(base::Transport& transport, base::Clock& clock, std::unique_ptr<Copier> copier,
                    SnapshotterOptions options, std::vector<ShardPlan> plans, StagingPlan staging)
      : transport_(transport),
        clock_(clock),
        copier_(std::move(copier)),
        options_(std::move(options)),
        plans_(std::move(plans)),
        staging_(std::move(staging)),
        threads_(ThreadCount(options_, staging_.bytes)),
        frozen_(plans_.size()),
        buffers_(*copier_, plans_.size()) {
    for (const ShardPlan& plan : plans_) digests_.emplace_back(ChunkCount(plan.data_bytes));
  }

  void AwaitTouched() override { buffers_.AwaitTouched(); }

  Status Connect(base::Duration attach_timeout) {
    buffers_.Clear();
    SetClient(nullptr);
    BELAY_ASSIGN(auto fresh, Client::Connect(transport_, options_.socket, options_.program, kTrainingTimeout));
    std::shared_ptr<Client> client = std::move(fresh);
    BELAY_ASSIGN(Attachment attachment, client->Attach(options_.attach, attach_timeout));
    BELAY_TRY(buffers_.Use(0, attachment.staging, attachment.staging_bytes));
    waves_.reset();
    if (attachment.staging_bytes < staging_.bytes) {
      waves_ = PlanWaves(staging_, plans_, attachment.staging_bytes);
      base::LogWarning(
          "belayd has less memory than the state needs: it is saved in waves, and each save holds up "
          "training while it is written; raise belayd's --memory-budget",
          {{"rank", options_.attach.rank.value()},
           {"state", base::HumanBytes(staging_.bytes)},
           {"memory", base::HumanBytes(attachment.staging_bytes)}});
    }
    SetClient(std::move(client));
    return {};
  }

  Status Begin(base::Step step, const std::string& reason) override {
    if (state_ == State::kFilling || state_ == State::kCopied) GiveUp("a newer snapshot begins");
    auto client = CurrentClient();
    const bool fresh = client == nullptr || client->Broken();
    if (fresh) {
      if (client != nullptr) base::LogWarning("belayd is gone; attaching again", {{"socket", options_.socket}});
      BELAY_TRY(Connect(kTrainingTimeout));
    }
    auto begun = CurrentClient()->BeginSnapshot(step, reason);
    if (!begun && begun.error().code == Code::kUnavailable && !fresh) {  // it went away just now
      BELAY_TRY(Connect(kTrainingTimeout));
      begun = CurrentClient()->BeginSnapshot(step, reason);
    }
    if (!begun) return tl::unexpected(std::move(begun).error());
    identity().step = step;
    state_ = State::kFilling;
    begun_ = *std::move(begun);
    return {};
  }

  Status Copy(const CopyRequest& request) override {
    BELAY_CHECK(state_ == State::kFilling, "Copy without Begin");
    const base::SteadyTime start = clock_.Now();
    if (auto usable = UseBuffer(); !usable) {
      GiveUp(usable.error().Text());
      return usable;
    }
    std::vector<bool> keep(plans_.size(), false);
    auto& images = buffers_.images();
    for (std::size_t i = 0; i < plans_.size(); ++i) {
      // Of two buffers one may hold what the tensors were before their last change.
      keep[i] = request.frozen_unchanged && plans_[i].frozen && !distrust_frozen_ && !waves_ && images[i] &&
                images[i]->serial == frozen_[i].newest;
      if (keep[i]) continue;
      images[i].reset();
      frozen_[i].newest = 0;
    }
    Status copied = waves_ ? CopyInWaves() : CopyAndDigest(keep);
    if (copied && request.unchanged && !request.unchanged()) {
      copied = Fail(Code::kSnapshotTorn, "the state changed while the snapshot of step ", identity().step,
                    " was copied: let the update wait for the copy (Checkpointer does)");
    }
    if (copied) {
      state_ = State::kCopied;
      base::LogDebug("copied the state", {{"step", identity().step},
                                          {"bytes", staging_.bytes},
                                          {"seconds", std::chrono::duration<double>(clock_.Now() - start).count()}});
      return {};
    }
    GiveUp(copied.error().Text());
    return copied;
  }

  Status Seal(const Records& records, const std::map<std::string, double>& metrics,
              std::optional<base::Step> parent_step) override {
    BELAY_CHECK(state_ == State::kCopied, "Seal without Copy");
    SealRequest seal{identity().step, {}, EncodeRecords(records), metrics, parent_step};
    auto& images = buffers_.images();
    const std::vector<std::uint64_t>& offsets = waves_ ? waves_->header_offsets : staging_.file_offsets;
    for (std::size_t i = 0; i < plans_.size(); ++i) {
      const StepAndGeneration own{identity().step, identity().generation};
      if (!images[i]) {
        const StepAndGeneration name = plans_[i].frozen && !waves_ ? NameOfFrozen(i, own) : own;
        ShardIdentity as = identity();
        as.step = name.step;
        BELAY_ASSIGN(const std::string header, EncodeShardHeader(plans_[i], as, digests_[i]));
        BELAY_CHECK(header.size() == plans_[i].header_bytes, "a header of ", header.size(), " bytes, planned ",
                    plans_[i].header_bytes);
        std::memcpy(buffers_.bytes().data() + offsets[i], header.data(), header.size());
        images[i] = {name, ++last_serial_};
        frozen_[i].newest = last_serial_;
      }
      const auto origin = images[i]->named == own ? std::nullopt : std::optional(images[i]->named);
      seal.files.push_back({plans_[i].file_name, offsets[i], plans_[i].FileBytes(), origin});
    }
    BELAY_TRY(CurrentClient()->SealSnapshot(seal));  // if it fails, the next Begin gives this snapshot up
    state_ = State::kIdle;
    return {};
  }

  Status Abandon(const std::string& why) override {
    if (state_ == State::kIdle) return {};
    state_ = State::kIdle;
    return CurrentClient()->AbandonSnapshot(identity().step, why);
  }

  Result<SnapshotOutcome> Wait(base::Step step, base::Duration deadline) override {
    const auto client = CurrentClient();
    if (client != nullptr) {
      auto outcome = client->WaitSnapshot(step, deadline);
      if (outcome || outcome.error().code != Code::kUnavailable) return outcome;
    }
    return LookUp(step);
  }

  std::uint64_t StagingBytes() const override { return buffers_.BytesHeld(); }
  bool InWaves() const override { return waves_.has_value(); }

 private:
  enum class State : std::uint8_t { kIdle, kFilling, kCopied };

  ShardIdentity& identity() { return options_.identity; }

  std::shared_ptr<Client> CurrentClient() const {
    const std::lock_guard lock(client_mutex_);
    return client_;
  }
  void SetClient(std::shared_ptr<Client> client) {
    const std::lock_guard lock(client_mutex_);
    client_.swap(client);
  }

  // Abandons what was not sealed, and waits a moment until the daemon has the memory free again.
  void GiveUp(const std::string& why) {
    state_ = State::kIdle;
    const auto client = CurrentClient();
    if (!client->AbandonSnapshot(identity().step, why)) return;  // it notices by itself when another begins, or by EOF
    base::IgnoreError(client->WaitSnapshot(identity().step, kGiveUpWait), "how it ended is known: abandoned");
  }

  // Content that an earlier save has written already, to another buffer, keeps that save's name: the daemon links it.
  StepAndGeneration NameOfFrozen(std::size_t file, const StepAndGeneration& own) {
    Frozen& known = frozen_[file];
    if (!known.named || known.digests != digests_[file]) {
      known.named = own;
      known.digests = digests_[file];
    }
    return *known.named;
  }

  // Here and not in Begin, for which the training loop waits: a GPU takes its time to register new memory.
  Status UseBuffer() {
    Status usable = buffers_.Use(begun_.buffer, begun_.staging, begun_.bytes);
    begun_.staging.Reset();
    if (usable && buffers_.bytes().size() < staging_.bytes && !waves_) {
      usable = Fail(Code::kProtocol, "belayd passed a buffer of ", buffers_.bytes().size(), " bytes where ",
                    staging_.bytes, " are needed");
    }
    if (!usable && begun_.buffer > 0) {  // later saves go without it
      options_.attach.takes_more_buffers = false;
      base::IgnoreError(CurrentClient()->Attach(options_.attach, kTrainingTimeout),
                        "the next save attaches if it must");
    }
    return usable;
  }

  // One pass over file order by threads_ threads, this one among them: each takes the next chunk, and has its bytes
  // landed and digested. `more`: copies behind those of the chunks, landed last.
  Status LandAll(std::span<const Copier::Copy> copies, const std::vector<StagedChunk>& chunks, std::size_t more) {
    if (copies.empty()) return {};
    BELAY_TRY(copier_->Begin(copies));
    std::atomic<std::size_t> next{0};
    std::mutex mutex;
    std::optional<base::Error> failure;  // guarded by mutex
    RunWith(threads_, [&] {
      for (std::size_t i = next++; i < chunks.size(); i = next++) {
        const StagedChunk& chunk = chunks[i];
        auto digest = copier_->Land(chunk.first_copy, chunk.last_copy);
        if (!digest) {
          const std::lock_guard lock(mutex);
          if (!failure) failure = std::move(digest).error();
          next = chunks.size();
          return;
        }
        digests_[chunk.file][chunk.chunk] = *digest;
      }
    });
    if (!failure && more > 0) {
      auto landed = copier_->Land(copies.size() - more, copies.size() - 1);
      if (!landed) failure = std::move(landed).error();
    }
    if (!failure) return {};
    copier_->Settle();
    return base::Wrap(std::move(*failure), "cannot copy the state of step ", identity().step);
  }

  Status WriteWave(Client& client, const Wave& wave) {
    for (const WavePiece& piece : wave.pieces) {
      const ShardPlan& file = plans_[piece.file];
      BELAY_TRY(client.WriteWave(
          {identity().step, file.file_name, file.FileBytes(), piece.file_offset, piece.offset, piece.bytes}));
    }
    return {};
  }

  // Fills one half of the window while the daemon writes the other.
  Status CopyInWaves() {
    const auto client = CurrentClient();
    std::future<Status> writing;  // the wave before
    const auto written = [&] { return writing.valid() ? writing.get() : Status(); };
    Status status;
    for (const Wave& wave : waves_->waves) {
      std::vector<Copier::Copy> copies;
      for (const StagedCopy& copy : wave.copies) {
        copies.push_back({copy.source, buffers_.bytes().data() + copy.destination, copy.bytes});
      }
      status = LandAll(copies, wave.chunks, 0);
      if (const Status before = written(); status) status = before;
      if (!status) break;
      try {
        writing = std::async(std::launch::async, [&] { return WriteWave(*client, wave); });
      } catch (const std::system_error&) {  // no thread to be had: one after the other
        status = WriteWave(*client, wave);
        if (!status) break;
      }
    }
    const Status last = written();
    return status ? last : status;
  }

  Status CopyAndDigest(const std::vector<bool>& keep) {
    const auto seed = static_cast<std::uint64_t>(identity().step.value());
    const SaveWork work = PlanSave(staging_, buffers_.bytes(), keep, seed);
    BELAY_TRY(LandAll(work.copies, work.chunks, work.probes.size()));
    const auto changed = FindChanged(work);
    if (!changed) return {};
    distrust_frozen_ = true;
    return Fail(Code::kSnapshotTorn, "frozen tensors of ", plans_[*changed].file_name,
                " were written to, past torch's counters (through .data()?): this save is given up, later ones copy "
                "them each time; let tensors that change require gradients, or be buffers");
  }

  // The connection broke after Seal: whether the step was committed is to be found out, not guessed.
  Result<SnapshotOutcome> LookUp(base::Step step) {
    auto client = Client::Connect(transport_, options_.socket, options_.program);
    if (!client) {
      return base::Wrap(std::move(client).error(), "belayd went away and it is not known whether step ", step,
                        " was committed");
    }
    BELAY_ASSIGN(const auto points, (*client)->RestorePoints(options_.attach.job));
    for (const RestorePoint& point : points) {
      if (point.committed && point.step == step && point.generation == options_.attach.generation) {
        return SnapshotOutcome{step, SnapshotState::kCommitted, std::nullopt, 0, staging_.bytes};
      }
    }
    return Fail(Code::kUnavailable, "belayd went away before step ", step, " was committed; save again");
  }

  base::Transport& transport_;
  base::Clock& clock_;
  std::unique_ptr<Copier> copier_;
  SnapshotterOptions options_;
  const std::vector<ShardPlan> plans_;
  const StagingPlan staging_;
  const int threads_;
  std::optional<WavePlan> waves_;                  // if the staging memory is smaller than the state
  std::vector<std::vector<ChunkDigest>> digests_;  // per file, per chunk
  struct Frozen {
    std::uint64_t newest = 0;                // serial of the image of what the last Copy found; 0: there is none
    std::optional<StepAndGeneration> named;  // the save that first wrote the content with these digests
    std::vector<ChunkDigest> digests;
  };
  Begun begun_;  // where the snapshot goes that Begin began
  std::uint64_t last_serial_ = 0;
  std::vector<Frozen> frozen_;  // per file
  StagingBuffers buffers_;
  bool distrust_frozen_ = false;
  State state_ = State::kIdle;
  mutable std::mutex client_mutex_;
  std::shared_ptr<Client> client_;
};

}  // namespace

Result<std::unique_ptr<Snapshotter>> Snapshotter::Create(base::Transport& transport, base::Clock& clock,
                                                         std::unique_ptr<Copier> copier, SnapshotterOptions options,
                                                         std::string layout_fingerprint, std::vector<ShardPlan> plans,
                                                         std::vector<std::vector<Source>> sources) {
  BELAY_ASSIGN(StagingPlan staging, PlanStaging(plans, sources));
  options.attach.staging_bytes = staging.bytes;
  options.attach.window_bytes_min = WindowBytesMin(staging, plans);
  options.attach.layout_fingerprint = std::move(layout_fingerprint);
  options.attach.takes_more_buffers = true;
  auto snapshotter = std::make_unique<StagedSnapshotter>(transport, clock, std::move(copier), std::move(options),
                                                         std::move(plans), std::move(staging));
  BELAY_TRY(snapshotter->Connect(kCallTimeout));
  return std::unique_ptr<Snapshotter>(std::move(snapshotter));
}

}  // namespace belay::checkpoint
