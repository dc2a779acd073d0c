#include "runtime/base/frame.h"

#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

FrameHeaderBytes Good() {
  Message message;
  message.body = "hello";
  message.descriptors.emplace_back();
  return *EncodeFrameHeader(message);
}

TEST(FrameTest, HasTheDocumentedBytes) {
  const FrameHeaderBytes bytes = Good();
  const std::string text(reinterpret_cast<const char*>(bytes.data()), 12);
  EXPECT_EQ(text, std::string("BELY\x01\x01\0\0\x05\0\0\0", 12));
}

TEST(FrameTest, DecodesWhatItEncoded) {
  const auto header = DecodeFrameHeader(Good());
  ASSERT_OK(header);
  EXPECT_EQ(header->descriptor_count, 1U);
  EXPECT_EQ(header->body_bytes, 5U);
  EXPECT_OK(CheckFrameBody(*header, "hello"));
}

TEST(FrameTest, RefusesEveryOtherBody) {
  const auto header = DecodeFrameHeader(Good());
  for (const char* body : {"hellp", "hell", "hello!", ""}) EXPECT_CODE(CheckFrameBody(*header, body), kProtocol);
}

TEST(FrameTest, RefusesWhatItDoesNotKnow) {
  const auto changed = [](std::size_t at, int value) {
    FrameHeaderBytes bytes = Good();
    bytes[at] = static_cast<std::byte>(value);
    return DecodeFrameHeader(bytes);
  };
  EXPECT_CODE(changed(0, 'b'), kProtocol);
  EXPECT_CODE(changed(3, 0), kProtocol);
  EXPECT_CODE(changed(4, 2), kProtocolVersion);
  EXPECT_CODE(changed(5, 65), kLimitExceeded);
  EXPECT_CODE(changed(6, 1), kProtocol);
  EXPECT_CODE(changed(7, 1), kProtocol);
  EXPECT_CODE(changed(11, 0x40), kLimitExceeded);
}

TEST(FrameTest, TheLimitItselfIsAllowed) {
  FrameHeaderBytes bytes = Good();
  bytes[5] = std::byte{64};
  bytes[8] = std::byte{0};
  bytes[11] = std::byte{4};  // 64 MiB
  const auto header = DecodeFrameHeader(bytes);
  ASSERT_OK(header);
  EXPECT_EQ(header->body_bytes, kMessageBytesMax);
  bytes[8] = std::byte{1};
  EXPECT_CODE(DecodeFrameHeader(bytes), kLimitExceeded);
}

}  // namespace
}  // namespace belay::base
