#include "checkpoint/format/digest.h"

#define XXH_STATIC_LINKING_ONLY  // the state on the stack
#include <openssl/evp.h>
#include <xxhash.h>
// The library's plain functions are built for the oldest processor of the architecture; these choose at run time, and
// are several times as fast on bytes that have just been copied.
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#endif

#include <algorithm>
#include <cstring>
#include <new>

#include "runtime/base/check.h"

namespace belay::checkpoint {

namespace {

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

ChunkDigest Canonical(const XXH128_hash_t& hash) {
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  ChunkDigest digest;
  static_assert(sizeof(canonical.digest) == sizeof(digest));
  std::memcpy(digest.data(), canonical.digest, digest.size());
  return digest;
}

}  // namespace

ChunkDigest DigestChunk(std::span<const std::byte> bytes) {
  return Canonical(XXH3_128bits(bytes.data(), bytes.size()));
}

DigestStream::DigestStream() {
  static_assert(sizeof(XXH3_state_t) == sizeof(state_) && alignof(XXH3_state_t) <= alignof(DigestStream));
  auto* const state = new (state_.data()) XXH3_state_t;
  XXH3_INITSTATE(state);
  XXH3_128bits_reset(state);
}

void DigestStream::Add(std::span<const std::byte> bytes) {
  XXH3_128bits_update(std::launder(reinterpret_cast<XXH3_state_t*>(state_.data())), bytes.data(), bytes.size());
}

ChunkDigest DigestStream::Finish() const {
  return Canonical(XXH3_128bits_digest(std::launder(reinterpret_cast<const XXH3_state_t*>(state_.data()))));
}

ChunkDigest CopyAndDigest(std::span<const CopyPiece> pieces) {
  DigestStream digest;
  for (const CopyPiece& piece : pieces) {
    for (std::size_t at = 0; at < piece.bytes; at += kCachedBytes) {
      const std::size_t bytes = std::min<std::size_t>(kCachedBytes, piece.bytes - at);
      std::memcpy(piece.destination + at, piece.source + at, bytes);
      digest.Add({piece.destination + at, bytes});
    }
  }
  return digest.Finish();
}

std::vector<ChunkDigest> DigestChunks(std::span<const std::byte> data) {
  std::vector<ChunkDigest> digests;
  digests.reserve(ChunkCount(data.size()));
  for (std::size_t at = 0; at < data.size(); at += kChunkBytes) {
    digests.push_back(DigestChunk(data.subspan(at, std::min<std::size_t>(kChunkBytes, data.size() - at))));
  }
  return digests;
}

std::string Sha256Hex(std::span<const std::byte> bytes) {
  std::array<std::byte, 32> digest;
  unsigned int size = 0;
  const int done = EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(digest.data()), &size,
                              EVP_sha256(), nullptr);
  BELAY_CHECK(done == 1 && size == digest.size(), "OpenSSL cannot compute SHA-256");
  return ToHex(digest);
}

std::string Sha256Hex(std::string_view text) { return Sha256Hex(std::as_bytes(std::span(text))); }

std::string Sha256Hex(const std::vector<ChunkDigest>& digests) { return Sha256Hex(std::as_bytes(std::span(digests))); }

std::string ToHex(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(bytes.size() * 2);
  for (const std::byte b : bytes) {
    hex.push_back(kDigits[std::to_integer<unsigned>(b) >> 4]);
    hex.push_back(kDigits[std::to_integer<unsigned>(b) & 15]);
  }
  return hex;
}

base::Result<std::vector<ChunkDigest>> ParseDigests(std::string_view hex) {
  constexpr std::size_t kDigits = 2 * std::tuple_size_v<ChunkDigest>;
  if (hex.size() % kDigits != 0) {
    return base::Fail(base::Code::kCorrupt, "a list of digests has ", hex.size(), " digits, not a multiple of ",
                      kDigits);
  }
  std::vector<ChunkDigest> digests(hex.size() / kDigits);
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    const int high = HexValue(hex[i]), low = HexValue(hex[i + 1]);
    if (high < 0 || low < 0) return base::Fail(base::Code::kCorrupt, "a digest is not lower-case hexadecimal");
    digests[i / kDigits][i % kDigits / 2] = static_cast<std::byte>(high * 16 + low);
  }
  return digests;
}

}  // namespace belay::checkpoint
