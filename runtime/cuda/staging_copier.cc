#include "runtime/cuda/staging_copier.h"

#include <algorithm>

#include "runtime/base/check.h"

namespace belay::runtime {
namespace {

// An event each so many bytes: digesting starts while later bytes still travel.
constexpr std::uint64_t kEventBytes = 4ULL * 1024 * 1024;

}  // namespace

base::Status StagingCopier::MarkStepEnd() {
  BELAY_TRY(engine_->MarkTraining());
  const std::lock_guard lock(mutex_);
  stage_ = Stage::kMarked;
  return {};
}

void StagingCopier::CopyEnded() {
  const std::lock_guard lock(mutex_);
  if (stage_ == Stage::kMarked) stage_ = Stage::kIdle;
  changed_.notify_all();
}

base::Status StagingCopier::GuardUpdate() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return stage_ != Stage::kMarked; });
  const Stage stage = stage_;
  stage_ = Stage::kIdle;
  if (stage == Stage::kIdle || event_count_ == 0) return {};
  const std::size_t last = event_count_ - 1;
  lock.unlock();
  // Also when issuing failed half-way: what was issued must end before the update (its error is reported by Begin).
  BELAY_TRY(engine_->TrainingAwaits(last));
  waits_ = true;
  return {};
}

std::optional<double> StagingCopier::TakeStreamWait() {
  if (!waits_) return std::nullopt;
  const auto seconds = engine_->TrainingWaited();
  waits_ = !seconds;
  return seconds;
}

base::Status StagingCopier::Begin(std::span<const Copy> copies) {
  const base::Status status = Issue(copies);
  const std::lock_guard lock(mutex_);
  if (stage_ == Stage::kMarked) stage_ = status ? Stage::kIssued : Stage::kFailed;
  changed_.notify_all();
  return status;
}

base::Status StagingCopier::Issue(std::span<const Copy> copies) {
  copies_.assign(copies.begin(), copies.end());
  event_of_copy_.assign(copies.size(), 0);
  {
    const std::lock_guard lock(mutex_);
    event_count_ = 0;
  }
  BELAY_TRY(engine_->SideAwaitsMark());
  std::uint64_t since_event = 0;
  const auto record = [&]() -> base::Status {
    if (since_event == 0) return {};
    since_event = 0;
    const std::lock_guard lock(mutex_);
    return engine_->RecordSide(event_count_++);
  };
  std::vector<PackItem> items;
  for (std::size_t i = 0; i < copies.size();) {
    const Copy& first = copies[i];
    if (first.bytes < kSmallBytes) {
      // A run of small copies whose destinations lie side by side becomes one transfer.
      items.clear();
      std::uint64_t packed = 0;
      std::size_t end = i;
      while (end < copies.size() && items.size() < kPackItemsMax && copies[end].bytes < kSmallBytes &&
             packed + copies[end].bytes <= kPackBytesMax && copies[end].destination == first.destination + packed) {
        items.push_back(
            {copies[end].source, static_cast<std::uint32_t>(packed), static_cast<std::uint32_t>(copies[end].bytes)});
        packed += copies[end].bytes;
        event_of_copy_[end++] = event_count_;
      }
      BELAY_TRY(items.size() == 1 ? engine_->Copy(first.destination, first.source, first.bytes)
                                  : engine_->Pack(first.destination, items, packed));
      since_event += std::max<std::uint64_t>(packed, 1);
      i = end;
      if (since_event >= kEventBytes) BELAY_TRY(record());
      continue;
    }
    for (std::uint64_t done = 0; done < first.bytes;) {
      const std::uint64_t piece = std::min(kEventBytes, first.bytes - done);
      BELAY_TRY(engine_->Copy(first.destination + done, first.source + done, piece));
      done += piece;
      since_event += piece;
      event_of_copy_[i] = event_count_;
      if (since_event >= kEventBytes) BELAY_TRY(record());
    }
    ++i;
  }
  return record();
}

base::Result<checkpoint::ChunkDigest> StagingCopier::Land(std::size_t first, std::size_t last) {
  BELAY_CHECK(first <= last && last < copies_.size(), "lands copies ", first, " to ", last, " of ", copies_.size());
  BELAY_TRY(engine_->AwaitOnHost(event_of_copy_[last]));
  // A chunk's copies lie side by side in the staging memory.
  const std::byte* const begin = copies_[first].destination;
  const std::byte* const end = copies_[last].destination + copies_[last].bytes;
  return checkpoint::DigestChunk({begin, end});
}

void StagingCopier::Settle() {
  std::size_t events = 0;
  {
    const std::lock_guard lock(mutex_);
    events = event_count_;
  }
  // Beside a failure of the device there is nothing better to do than to have asked.
  if (events > 0) base::IgnoreError(engine_->AwaitOnHost(events - 1), "what failed is reported");
}

}  // namespace belay::runtime
