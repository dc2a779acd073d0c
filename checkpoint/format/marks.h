// Marks beside a manifest: small files that say something of a committed checkpoint without being part of it. FORMAT.md
// has their layout. They belong to the files, so a rebuilt index knows them again.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "runtime/base/result.h"

namespace belay::checkpoint {

inline constexpr std::uint64_t kMarkBytesMax = 64 << 10;
inline constexpr std::string_view kPinnedName = ".pinned";            // empty: retention keeps it
inline constexpr std::string_view kQuarantinedName = ".quarantined";  // damage was found: not restored from

struct Quarantine {
  std::string reason;  // what was found, for people: file, tensor, offset; never empty
  std::string found;   // RFC 3339, UTC
};
std::string EncodeQuarantine(const Quarantine& quarantine);
// Untrusted input. kCorrupt, kFormatVersion.
base::Result<Quarantine> DecodeQuarantine(std::string_view json);
// From what reading a mark gave. One that cannot be read still counts, and the reason says so.
Quarantine QuarantineFrom(const base::Result<std::string>& content);

}  // namespace belay::checkpoint
