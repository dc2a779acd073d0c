// Digests. XXH3-128 for each 4 MiB chunk of a shard's data section (finds accidents at memory speed), SHA-256 over the
// list of chunk digests and over the manifest (names content for the world).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/base/units.h"

namespace belay::checkpoint {

inline constexpr std::uint64_t kChunkBytes = 4 * base::kMiB;

using ChunkDigest = std::array<std::byte, 16>;  // XXH3-128, canonical (big-endian) form

ChunkDigest DigestChunk(std::span<const std::byte> bytes);
// A digest of bytes that arrive little by little.
class DigestStream {
 public:
  DigestStream();
  void Add(std::span<const std::byte> bytes);
  ChunkDigest Finish() const;

 private:
  alignas(64) std::array<std::byte, 576> state_;  // XXH3_state_t, which is nobody's business but digest.cc's
};
// Bytes that are touched again at once are digested in pieces of this size: with their copy they fit the core's own
// cache (512 KiB at least on the servers of today).
inline constexpr std::size_t kCachedBytes = 128 * base::kKiB;

struct CopyPiece {
  const std::byte* source = nullptr;
  std::byte* destination = nullptr;
  std::uint64_t bytes = 0;
};
// Copies the pieces, one after the other, and digests what has arrived as one chunk: a block at a time, while it is in
// the core's own cache, so that both together take hardly longer than the copy. The digest is of the destination.
ChunkDigest CopyAndDigest(std::span<const CopyPiece> pieces);
// All chunks of `data` (the last may be short); none for empty data.
std::vector<ChunkDigest> DigestChunks(std::span<const std::byte> data);
constexpr std::uint64_t ChunkCount(std::uint64_t data_bytes) { return (data_bytes + kChunkBytes - 1) / kChunkBytes; }

std::string Sha256Hex(std::span<const std::byte> bytes);
std::string Sha256Hex(std::string_view text);
std::string Sha256Hex(const std::vector<ChunkDigest>& digests);  // over their concatenation

std::string ToHex(std::span<const std::byte> bytes);
base::Result<std::vector<ChunkDigest>> ParseDigests(std::string_view hex);  // concatenated 32-digit groups

}  // namespace belay::checkpoint
