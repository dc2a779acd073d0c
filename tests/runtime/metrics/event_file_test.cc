#include "runtime/metrics/event_file.h"

#include <gtest/gtest.h>

#include <bit>

namespace belay::runtime {
namespace {

TEST(EventFileTest, ChecksumIsMaskedCrc32cOfTheStandardVector) {
  // CRC32C("123456789") = 0xE3069283 (RFC 3720); masked as TensorFlow's record files do.
  EXPECT_EQ(MaskedCrc32c("123456789"), std::rotr(0xE3069283U, 15) + 0xA282EAD8U);
  EXPECT_EQ(MaskedCrc32c(""), 0xA282EAD8U);
}

TEST(EventFileTest, FramesARecordWithLengthAndBothChecksums) {
  const std::string record = FrameRecord("abc");
  ASSERT_EQ(record.size(), 8U + 4U + 3U + 4U);
  EXPECT_EQ(record.substr(0, 8), std::string("\x03\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(record.substr(12, 3), "abc");
}

TEST(EventFileTest, EncodesAScalarAsTheProtobufLibraryWould) {
  // wall_time 1.0, step 300 (two bytes of varint), one value "a" = 0.5.
  const std::string expected(
      "\x09\0\0\0\0\0\0\xF0\x3F"
      "\x10\xAC\x02"
      "\x2A\x0A\x0A\x08"
      "\x0A\x01"
      "a"
      "\x15\0\0\0\x3F",
      24);
  EXPECT_EQ(EncodeScalars(1.0, 300, {{"a", 0.5}}), expected);
}

}  // namespace
}  // namespace belay::runtime
