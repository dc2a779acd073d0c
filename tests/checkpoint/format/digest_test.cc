#include "checkpoint/format/digest.h"

#include <gtest/gtest.h>

#include "runtime/base/rng.h"

namespace belay::checkpoint {
namespace {

std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

// Values from the published reference: `xxh128sum` and `sha256sum`.
TEST(DigestTest, AgreesWithTheReferenceTools) {
  EXPECT_EQ(ToHex(DigestChunk({})), "99aa06d3014798d86001c324468d497f");
  EXPECT_EQ(Sha256Hex(std::string_view()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(Sha256Hex(std::string_view("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(DigestTest, DigestsEachChunkAlone) {
  std::string data(kChunkBytes + 5, 'x');
  data.back() = 'y';
  const auto digests = DigestChunks(Bytes(data));
  ASSERT_EQ(digests.size(), 2U);
  EXPECT_EQ(digests[0], DigestChunk(Bytes(data).first(kChunkBytes)));
  EXPECT_EQ(digests[1], DigestChunk(Bytes("xxxxy")));
  EXPECT_TRUE(DigestChunks({}).empty());
  EXPECT_EQ(ChunkCount(0), 0U);
  EXPECT_EQ(ChunkCount(kChunkBytes), 1U);
  EXPECT_EQ(ChunkCount(kChunkBytes + 1), 2U);
}

TEST(DigestTest, ACopyHasTheDigestOfItsBytesHoweverItIsCut) {
  std::string from(1'000'003, '\0'), to(from.size(), '\0');
  base::Rng rng(7);
  for (char& c : from) c = static_cast<char>(rng.Next());
  for (const std::size_t size : {from.size(), std::size_t{400'000}, std::size_t{131'072}, std::size_t{1001}}) {
    std::vector<CopyPiece> pieces;
    for (std::size_t at = 0; at < from.size(); at += size) {
      const std::size_t bytes = std::min(size, from.size() - at);
      pieces.push_back({Bytes(from).data() + at, reinterpret_cast<std::byte*>(to.data()) + at, bytes});
    }
    to.assign(to.size(), '\0');
    EXPECT_EQ(CopyAndDigest(pieces), DigestChunk(Bytes(from))) << size;
    EXPECT_TRUE(from == to) << size;
  }
  EXPECT_EQ(CopyAndDigest({}), DigestChunk({}));
}

TEST(DigestTest, SumsAListAsItsBytes) {
  const auto digests = DigestChunks(Bytes("hello"));
  EXPECT_EQ(Sha256Hex(digests), Sha256Hex(std::span<const std::byte>(digests[0])));
}

TEST(DigestTest, ParsesWhatItPrints) {
  const std::vector<ChunkDigest> digests{DigestChunk(Bytes("a")), DigestChunk(Bytes("b"))};
  const auto parsed = ParseDigests(ToHex(digests[0]) + ToHex(digests[1]));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(*parsed, digests);
  EXPECT_TRUE(ParseDigests("")->empty());
}

TEST(DigestTest, RefusesOtherHex) {
  const std::string good = ToHex(DigestChunk({}));
  for (const std::string& bad :
       {good + "0", good.substr(2), std::string(32, 'G'), std::string(32, 'A'), std::string(32, ' ')}) {
    const auto parsed = ParseDigests(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_EQ(parsed.error().code, base::Code::kCorrupt);
  }
}

}  // namespace
}  // namespace belay::checkpoint
