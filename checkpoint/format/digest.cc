#include "checkpoint/format/digest.h"

#include <openssl/evp.h>
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "runtime/base/check.h"

namespace belay::checkpoint {

namespace {

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

}  // namespace

ChunkDigest DigestChunk(std::span<const std::byte> bytes) {
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  XXH128_canonical_t canonical;
  XXH128_canonicalFromHash(&canonical, hash);
  ChunkDigest digest;
  static_assert(sizeof(canonical.digest) == sizeof(digest));
  std::memcpy(digest.data(), canonical.digest, digest.size());
  return digest;
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
