// Random number generators as records: the CPU's default generator and, on a GPU, that of this rank's device.
#pragma once

#include <string_view>

#include <c10/core/Device.h>

#include "checkpoint/format/manifest.h"
#include "runtime/base/ids.h"
#include "runtime/base/result.h"

namespace belay::runtime {

// "belay.rng.cpu", "belay.rng.cuda": generator states as torch gives them; "belay.rng.seed": the CPU generator's seed.
checkpoint::Records SaveGenerators(c10::Device device);
// Of belay's own records, whatever version wrote them; names of the program's have no dot.
inline bool IsGeneratorRecord(std::string_view name) { return name.starts_with("belay."); }
// kLayoutMismatch where a generator of this device was not saved (a CPU checkpoint on a GPU: its seed serves instead),
// kCorrupt where torch refuses the bytes.
base::Status LoadGenerators(c10::Device device, const checkpoint::Records& records);
// For another world size: seed' = Mix64(seed + Mix64(step) + Mix64(rank + 1)), the same on every machine, different for
// every rank and step. `records` are rank 0's.
base::Status DeriveGenerators(c10::Device device, const checkpoint::Records& records, base::Step step, base::Rank rank);

}  // namespace belay::runtime
