#include "runtime/base/disk_trial.h"

#include <unistd.h>

#include <algorithm>

#include "runtime/base/check.h"

namespace belay::base {

Result<DiskTrial> DiskTrial::Make(FileSystem& files, Clock& clock, const Plan& plan, std::span<std::byte> memory) {
  BELAY_CHECK(!memory.empty(), "a trial needs memory");
  BELAY_ASSIGN(auto file,
               files.Open(plan.folder, {.mode = OpenOptions::Mode::kNameless, .bulk = true, .shape = plan.shape}));
  BELAY_TRY(file->Preallocate(plan.bytes));
  return DiskTrial(clock, plan, memory, std::move(file));
}

template <typename Work>
Result<double> DiskTrial::Timed(const Work& work) {
  const SteadyTime began = clock_->Now();
  BELAY_TRY(work());
  return std::chrono::duration<double>(clock_->Now() - began).count();
}

template <typename Move>
Result<double> DiskTrial::InPieces(const Move& move) {
  return Timed([&]() -> Status {
    const std::uint64_t piece = std::min<std::uint64_t>(kPieceBytes, memory_.size());
    for (std::uint64_t at = 0; at < plan_.bytes; at += piece) {
      const std::uint64_t from = at % (memory_.size() / piece * piece);
      BELAY_TRY(move(at, memory_.subspan(from, std::min(piece, plan_.bytes - at))));
    }
    return {};
  });
}

Result<double> DiskTrial::ReadFrom(File& file) {
  return InPieces([&](std::uint64_t at, std::span<std::byte> bytes) -> Status {
    BELAY_ASSIGN(const std::size_t read, file.ReadAt(at, bytes));
    if (read == bytes.size()) return {};
    return Fail(Code::kIncomplete, "the file ends at byte ", at + read, " while it is read");
  });
}

Result<double> DiskTrial::Write() {
  return InPieces([&](std::uint64_t at, std::span<std::byte> bytes) { return file_->WriteAt(at, bytes); });
}

Result<double> DiskTrial::Sync() {
  return Timed([&] { return file_->Sync(); });
}

Result<double> DiskTrial::Read() { return ReadFrom(*file_); }

Result<double> DiskTrial::ReadBuffered() {
  UniqueFd again(::dup(file_->Descriptor()));
  if (!again.valid()) return Fail(Code::kUnsupported, "the file cannot be read through the page cache");
  const auto buffered = FileFromDescriptor(std::move(again), plan_.folder);
  return ReadFrom(*buffered);
}

}  // namespace belay::base
