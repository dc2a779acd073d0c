#include "checkpoint/daemon/device_probe.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "runtime/base/disk_trial.h"
#include "runtime/base/fault_points.h"
#include "runtime/base/rng.h"
#include "runtime/base/shared_memory.h"

namespace belay::checkpoint {
namespace {

using base::BulkShape;
using base::Result;
using index::ShapeSpeed;

// Fewer and more in flight, smaller and larger: what a slow disk, one that is many, and a busy network tell apart.
constexpr std::array kCandidates = {BulkShape(), BulkShape{base::kMiB, 32}, BulkShape{4 * base::kMiB, 4},
                                    BulkShape{4 * base::kMiB, 32}, BulkShape{8 * base::kMiB, 16}};
constexpr std::uint64_t kWarmUpBytes = 32 * base::kMiB;  // also on the slowest disk soon done
constexpr std::uint64_t kWrittenBytesMax = 2 * kWarmUpBytes + kProbeRounds * kCandidates.size() * kProbeFileBytesMax;
static_assert(kWrittenBytesMax <= 2 * base::kGiB);

constexpr double kClearlyBetter = 1.10;
constexpr double kAhead = 1.05;   // in each round
constexpr double kAsFast = 0.97;  // a disk reads nothing twice in quite the same time

std::uint64_t PerSecond(std::uint64_t bytes, double seconds) {
  return static_cast<std::uint64_t>(static_cast<double>(bytes) / std::max(seconds, 1e-6));
}

bool IsTimes(std::uint64_t value, double factor, std::uint64_t of) {
  return static_cast<double>(value) >= factor * static_cast<double>(of);
}

std::uint64_t MedianOf(std::vector<std::uint64_t> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

// The largest file that all rounds are done with in the time; 0: none is.
std::uint64_t FileBytesFor(const ShapeSpeed& first, base::Duration time) {
  for (const std::uint64_t bytes : {kProbeFileBytesMax, kProbeFileBytesMax / 2}) {
    const double size = static_cast<double>(bytes);
    const double one = size / static_cast<double>(std::max<std::uint64_t>(first.write, 1)) +
                       size / static_cast<double>(std::max<std::uint64_t>(first.read, 1));
    if (one * kProbeRounds * kCandidates.size() <= std::chrono::duration<double>(time).count()) return bytes;
  }
  return 0;
}

// The hands: memory that is written, and a file for each measurement.
class Meter {
 public:
  static Result<Meter> Make(base::FileSystem& files, base::Clock& clock, const std::string& folder) {
    Meter meter(files, clock, folder);
    BELAY_ASSIGN(const base::UniqueFd fd,
                 base::CreateSharedMemory({.name = "belayd-probe", .size_bytes = kProbeFileBytesMax}));
    BELAY_ASSIGN(meter.memory_, base::MapSharedMemory(fd.get(), kProbeFileBytesMax, base::MapAccess::kReadWrite));
    BELAY_TRY(base::TouchPages(meter.memory_.bytes(), 1));
    base::Rng rng(1);
    const std::span<std::byte> bytes = meter.memory_.bytes();
    for (std::size_t i = 0; i < bytes.size(); i += 8) {  // not zeros: a disk may treat them better
      const std::uint64_t word = rng.Next();
      std::memcpy(&bytes[i], &word, sizeof word);
    }
    return meter;
  }

  Result<ShapeSpeed> Measure(const BulkShape& shape, std::uint64_t bytes) {
    BELAY_TRY(base::FaultPoint("probe.before_write"));
    BELAY_ASSIGN(auto trial, base::DiskTrial::Make(*files_, *clock_, {folder_, bytes, shape}, memory_.bytes()));
    BELAY_ASSIGN(const double write, trial.Write());
    BELAY_ASSIGN(const double sync, trial.Sync());
    BELAY_ASSIGN(const double read, trial.Read());
    return ShapeSpeed{shape, PerSecond(bytes, write + sync), PerSecond(bytes, read)};
  }

 private:
  Meter(base::FileSystem& files, base::Clock& clock, std::string folder)
      : files_(&files), clock_(&clock), folder_(std::move(folder)) {}

  base::FileSystem* files_;
  base::Clock* clock_;
  std::string folder_;
  base::Mapping memory_;
};

ProbeResult Without(ProbeResult::End end, std::string why) { return {{}, end, {}, std::move(why)}; }

ProbeResult ProbeOrSayWhyNot(base::FileSystem& files, base::Clock& clock, const std::string& folder,
                             BackgroundGate& gate, std::uint64_t pauses) {
  using End = ProbeResult::End;
  const auto space = files.Space(folder);
  if (!space) return Without(End::kFailed, space.error().Text());
  if (space->available_bytes < kProbeFreeTimes * kProbeFileBytesMax) {
    return Without(End::kLeftOut, base::Str(base::HumanBytes(space->available_bytes), " free are too little for it"));
  }
  if (base::BulkWriterName(folder) == "buffered") {
    return Without(End::kLeftOut, "files go through the page cache here, whatever their shape");
  }
  if (!gate.Pass(2 * kWrittenBytesMax)) return Without(End::kAbandoned, {});  // written and read
  auto meter = Meter::Make(files, clock, folder);
  if (!meter) return Without(End::kFailed, meter.error().Text());
  return RunProbe([&](const BulkShape& shape, std::uint64_t bytes) { return meter->Measure(shape, bytes); },
                  [&] { return gate.IsOpen() && gate.Pauses() == pauses; }, clock);
}

}  // namespace

std::span<const BulkShape> ProbeCandidates() { return kCandidates; }

std::vector<ShapeSpeed> Medians(std::span<const ProbeRound> rounds) {
  std::vector<ShapeSpeed> medians;
  if (rounds.empty()) return medians;
  for (std::size_t i = 0; i < rounds.front().size(); ++i) {
    std::vector<std::uint64_t> writes, reads;
    for (const ProbeRound& round : rounds) {
      writes.push_back(round.at(i).write);
      reads.push_back(round.at(i).read);
    }
    medians.push_back({rounds.front()[i].shape, MedianOf(writes), MedianOf(reads)});
  }
  return medians;
}

BulkShape ChooseShape(std::span<const ProbeRound> rounds) {
  const std::vector<ShapeSpeed> medians = Medians(rounds);
  if (medians.empty()) return {};
  const ShapeSpeed& usual = medians.front();
  const ShapeSpeed* best = &usual;
  for (std::size_t i = 1; i < medians.size(); ++i) {
    const ShapeSpeed& one = medians[i];
    const bool always_ahead = std::ranges::all_of(
        rounds, [i](const ProbeRound& round) { return IsTimes(round[i].write, kAhead, round.front().write); });
    if (always_ahead && IsTimes(one.write, kClearlyBetter, usual.write) && IsTimes(one.read, kAsFast, usual.read) &&
        one.write > best->write) {
      best = &one;
    }
  }
  return best->shape;
}

ProbeResult RunProbe(const MeasureShape& measure, const std::function<bool()>& alone, base::Clock& clock) {
  using End = ProbeResult::End;
  const base::SteadyTime until = clock.Now() + kProbeTime;
  // The first file also wakes the disk up, and may meet what others have yet to write.
  std::uint64_t bytes = 0;
  for (int attempt = 0; attempt < 2 && bytes == 0; ++attempt) {
    if (!alone()) return Without(End::kAbandoned, {});
    const auto first = measure(kCandidates.front(), kWarmUpBytes);
    if (!first) return Without(End::kFailed, first.error().Text());
    bytes = FileBytesFor(*first, until - clock.Now());
  }
  const std::string too_slow = "it is too slow to tell shapes apart in so short a time";
  if (bytes == 0) return Without(End::kLeftOut, too_slow);
  std::vector<ProbeRound> rounds;
  for (std::size_t number = 0; number < kProbeRounds; ++number) {
    ProbeRound round(kCandidates.size());
    for (std::size_t i = 0; i < kCandidates.size(); ++i) {
      // Each round begins with another one, so that none always comes after the same.
      const std::size_t turn = (number + i) % kCandidates.size();
      if (!alone()) return Without(End::kAbandoned, {});
      if (clock.Now() >= until) return Without(End::kMeasured, too_slow);
      const auto speed = measure(kCandidates[turn], bytes);
      if (!speed) return Without(End::kFailed, speed.error().Text());
      round[turn] = *speed;
    }
    rounds.push_back(std::move(round));
  }
  if (!alone()) return Without(End::kAbandoned, {});
  ProbeResult result;
  result.record.shape = ChooseShape(rounds);
  result.record.speeds = Medians(rounds);
  return result;
}

ProbeResult ProbeDevice(base::FileSystem& files, base::Clock& clock, const std::string& folder, BackgroundGate& gate,
                        std::uint64_t pauses) {
  ProbeResult result = ProbeOrSayWhyNot(files, clock, folder, gate, pauses);
  result.folder = folder;
  return result;
}

}  // namespace belay::checkpoint
