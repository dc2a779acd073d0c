// How far a checkpoint is to be trusted: what resuming from it has shown. Kept in the mark `.trust` beside the
// manifest, whose layout FORMAT.md has. Digests prove that the bytes are those that were saved; only training on proves
// that they are worth it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/base/ids.h"
#include "runtime/base/result.h"

namespace belay::checkpoint {

inline constexpr std::string_view kTrustName = ".trust";
// So many resumes that fail make a checkpoint suspect.
inline constexpr std::uint32_t kFailedResumesMax = 2;

enum class TrustState : std::uint8_t {
  kUnknown = 0,
  kGood = 1,     // a resume from it made the steps that were asked of it, or a person said so
  kSuspect = 2,  // resumes from it fail, or a person said so: the next older one is tried
};
std::string_view TrustName(TrustState state);  // "unknown", "good", "suspect"
std::optional<TrustState> ParseTrust(std::string_view name);

struct Trust {
  TrustState state = TrustState::kUnknown;
  std::uint32_t failed_resumes = 0;
  base::Generation judged_by;  // the run whose word counted last; 0: no run's
  std::string reason;          // for people; may be empty unless suspect
  friend bool operator==(const Trust&, const Trust&) = default;
};
// `changed`: RFC 3339, UTC.
std::string EncodeTrust(const Trust& trust, std::string_view changed);
// Untrusted input. kCorrupt, kFormatVersion.
base::Result<Trust> DecodeTrust(std::string_view json);
// From what reading a mark gave. One that cannot be read says nothing against the checkpoint.
Trust TrustFrom(const base::Result<std::string>& content);

}  // namespace belay::checkpoint
