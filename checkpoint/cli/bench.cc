#include "checkpoint/cli/bench.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "checkpoint/format/digest.h"
#include "runtime/base/disk_trial.h"
#include "runtime/base/rng.h"
#include "runtime/base/shared_memory.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::cli {
namespace {

using base::Code;
using base::Result;
using base::Status;

constexpr std::uint64_t kMemoryBytesMax = base::kGiB;
constexpr std::uint64_t kSpareBytes = 64 * base::kMiB;  // stays free beside the file, as belayd keeps it
constexpr int kRepeats = 3;                             // of what takes milliseconds: the best counts

class Bench {
 public:
  Bench(base::FileSystem& files, base::Clock& clock, const BenchRequest& request,
        const std::function<void(std::string_view)>& said)
      : files_(files), clock_(clock), request_(request), said_(said) {}

  Result<BenchFigures> Run() {
    BELAY_ASSIGN(const base::SpaceInfo space, files_.Space(request_.folder));
    if (space.available_bytes < request_.bytes + kSpareBytes) {
      return base::Fail(Code::kNoSpace, request_.folder, " has ", base::HumanBytes(space.available_bytes),
                        " free; a file of ", base::HumanBytes(request_.bytes), " and ", base::HumanBytes(kSpareBytes),
                        " to spare do not fit (--size takes less)");
    }
    BELAY_TRY(MeasureMemory());
    BELAY_TRY(MeasureDisk());
    return figures_;
  }

 private:
  // Bytes a second of `work`, which moves `bytes`.
  template <typename Work>
  double Rate(std::uint64_t bytes, const Work& work) {
    const base::SteadyTime began = clock_.Now();
    work();
    const double seconds = std::chrono::duration<double>(clock_.Now() - began).count();
    return static_cast<double>(bytes) / std::max(seconds, 1e-9);
  }
  template <typename Work>
  double BestRate(std::uint64_t bytes, const Work& work) {
    double best = 0;
    for (int i = 0; i < kRepeats; ++i) best = std::max(best, Rate(bytes, work));
    return best;
  }

  Status MeasureMemory() {
    figures_.memory_bytes = std::min(base::AlignUp(request_.bytes, kChunkBytes), kMemoryBytesMax);
    const std::uint64_t bytes = figures_.memory_bytes;
    BELAY_ASSIGN(const base::UniqueFd fd, base::CreateSharedMemory({.name = "belay-bench", .size_bytes = bytes}));
    BELAY_ASSIGN(memory_, base::MapSharedMemory(fd.get(), bytes, base::MapAccess::kReadWrite));
    const std::span<std::byte> memory = memory_.bytes();
    said_("first touch of staging memory");
    Status touched;
    figures_.first_touch = Rate(bytes, [&] { touched = base::TouchPages(memory, request_.threads); });
    BELAY_TRY(touched);
    // A source beside it, touched too, and large enough not to stay in the processor's cache.
    std::vector<std::byte> source(std::min<std::uint64_t>(bytes, 256 * base::kMiB));
    base::Rng rng(1);
    for (std::size_t i = 0; i + 8 <= source.size(); i += 8) {  // not zeros: a disk may treat them better
      const std::uint64_t word = rng.Next();
      std::memcpy(&source[i], &word, sizeof word);
    }
    const auto piece_of = [&](std::uint64_t at) {
      const std::uint64_t from = at % source.size();
      return std::span(source).subspan(from, std::min<std::uint64_t>(kChunkBytes, source.size() - from));
    };
    const auto copy_chunk = [&](std::uint64_t at) {
      const auto from = piece_of(at);
      const auto to = memory.subspan(at, std::min<std::uint64_t>(from.size(), bytes - at));
      std::memcpy(to.data(), from.data(), to.size());
      return to;
    };
    said_("copy");
    figures_.copy = BestRate(bytes, [&] {
      for (std::uint64_t at = 0; at < bytes; at += kChunkBytes) copy_chunk(at);
    });
    said_("digest");
    figures_.digest = BestRate(bytes, [&] { KeepDigests(DigestChunks(memory)); });
    said_("copy and digest");
    figures_.copy_and_digest = BestRate(bytes, [&] {
      std::atomic<std::uint64_t> next{0};
      const auto work = [&] {
        for (std::uint64_t at = next.fetch_add(kChunkBytes); at < bytes; at = next.fetch_add(kChunkBytes)) {
          KeepDigests({DigestChunk(copy_chunk(at))});
        }
      };
      std::vector<std::jthread> helpers;
      for (int i = 1; i < request_.threads; ++i) helpers.emplace_back(work);
      work();
    });
    return {};
  }

  // So that no compiler finds out that nobody looks at them.
  void KeepDigests(const std::vector<ChunkDigest>& digests) {
    for (const ChunkDigest& digest : digests) kept_ = kept_ + std::to_integer<unsigned>(digest[0]);
  }

  Status MeasureDisk() {
    BELAY_ASSIGN(auto trial, base::DiskTrial::Make(files_, clock_, {request_.folder, request_.bytes, request_.shape},
                                                   memory_.bytes()));
    const auto rate = [&](double seconds) { return static_cast<double>(request_.bytes) / std::max(seconds, 1e-9); };
    said_("write");
    BELAY_ASSIGN(const double write, trial.Write());
    figures_.write = rate(write);
    said_("sync");
    BELAY_ASSIGN(const double sync, trial.Sync());
    figures_.write_and_sync = rate(write + sync);
    said_("read, direct");
    BELAY_ASSIGN(const double read, trial.Read());
    figures_.read_direct = rate(read);
    said_("read, buffered");
    BELAY_ASSIGN(const double buffered, trial.ReadBuffered());
    figures_.read_buffered = rate(buffered);
    return {};
  }

  base::FileSystem& files_;
  base::Clock& clock_;
  const BenchRequest& request_;
  const std::function<void(std::string_view)>& said_;
  base::Mapping memory_;
  BenchFigures figures_;
  std::atomic<unsigned> kept_ = 0;
};

double Seconds(std::uint64_t bytes, double rate) { return rate > 0 ? static_cast<double>(bytes) / rate : 0; }

}  // namespace

Result<BenchFigures> RunBench(base::FileSystem& files, base::Clock& clock, const BenchRequest& request,
                              const std::function<void(std::string_view)>& said) {
  return Bench(files, clock, request, said).Run();
}

BenchMeaning MeaningOf(const BenchFigures& figures, std::uint64_t state_bytes) {
  BenchMeaning meaning;
  meaning.stall_seconds = Seconds(state_bytes, figures.copy_and_digest);
  meaning.commit_seconds = meaning.stall_seconds + Seconds(state_bytes, figures.write_and_sync);
  meaning.restore_memory_seconds = Seconds(state_bytes, figures.copy_and_digest);
  // Reading and checking go side by side; the slower one counts.
  meaning.restore_disk_seconds = Seconds(state_bytes, std::min(figures.read_buffered, figures.copy_and_digest));
  meaning.first_save_seconds = Seconds(state_bytes, figures.first_touch);
  return meaning;
}

}  // namespace belay::checkpoint::cli
