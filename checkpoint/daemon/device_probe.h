// In which shape a device moves bulk files best, found by writing and reading a little of it.
//
// The same file is written, made durable and read in a few shapes, in rounds, because disks drift: what counts are
// medians, and a shape must have been ahead in every round. The default stays unless another one is clearly better, as
// three seconds are little and every machine knows the default. At most 2 GiB are written, to files that have no name.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/daemon/background_gate.h"
#include "checkpoint/index/schema.h"
#include "runtime/base/clock.h"
#include "runtime/base/file_system.h"
#include "runtime/base/result.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {

inline constexpr int kProbeRounds = 3;
inline constexpr std::uint64_t kProbeFileBytesMax = 128 * base::kMiB;  // as much as belayd has in flight at most
inline constexpr base::Duration kProbeTime = std::chrono::seconds(3);
inline constexpr std::uint64_t kProbeFreeTimes = 16;  // so many times the file must be free

// The shapes that are tried, the default one first.
std::span<const base::BulkShape> ProbeCandidates();

using ProbeRound = std::vector<index::ShapeSpeed>;  // one of each candidate, in their order
std::vector<index::ShapeSpeed> Medians(std::span<const ProbeRound> rounds);
// The default (the first of each round), or the one that writes fastest of those that write at least a tenth faster,
// were clearly ahead in every round, and read as fast.
base::BulkShape ChooseShape(std::span<const ProbeRound> rounds);

struct ProbeResult {
  enum class End : std::uint8_t {
    kMeasured,   // `record` says what, all but when and by whom
    kAbandoned,  // somebody began to save or restore, or the daemon leaves
    kLeftOut,    // there was nothing to choose, no room, or no time; `why`
    kFailed,     // `why`
  };
  std::string folder;
  End end = End::kMeasured;
  index::DeviceRecord record;
  std::string why;  // of kMeasured: the disk became too slow for a comparison; empty: there was one
};

// Writes and reads a file of so many bytes in this shape.
using MeasureShape = std::function<base::Result<index::ShapeSpeed>(const base::BulkShape& shape, std::uint64_t bytes)>;

// The measurement without hands. `alone`: may it go on?
ProbeResult RunProbe(const MeasureShape& measure, const std::function<bool()>& alone, base::Clock& clock);

// Measures the device of a folder. It passes the gate once, for all of it: it is short, and waits would spoil it.
// `pauses`: of the gate, when the folder was found idle. Blocking; the scrubbing thread.
ProbeResult ProbeDevice(base::FileSystem& files, base::Clock& clock, const std::string& folder, BackgroundGate& gate,
                        std::uint64_t pauses);

}  // namespace belay::checkpoint
