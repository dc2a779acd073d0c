#include "runtime/base/frame.h"

#include <xxhash.h>

namespace belay::base {

namespace {

void Put(FrameHeaderBytes& bytes, std::size_t at, std::uint32_t value, std::size_t size) {
  for (std::size_t i = 0; i < size; ++i) bytes[at + i] = static_cast<std::byte>(value >> (8 * i));
}

std::uint32_t Take(std::span<const std::byte> bytes, std::size_t at, std::size_t size) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < size; ++i) value |= std::to_integer<std::uint32_t>(bytes[at + i]) << (8 * i);
  return value;
}

std::uint32_t Hash(std::string_view body) { return static_cast<std::uint32_t>(XXH3_64bits(body.data(), body.size())); }

}  // namespace

Result<FrameHeaderBytes> EncodeFrameHeader(const Message& message) {
  if (message.body.size() > kMessageBytesMax) {
    return Fail(Code::kLimitExceeded, "a message of ", message.body.size(), " bytes is over the limit of ",
                kMessageBytesMax);
  }
  if (message.descriptors.size() > kDescriptorsMax) {
    return Fail(Code::kLimitExceeded, message.descriptors.size(), " descriptors in a message, the limit is ",
                kDescriptorsMax);
  }
  FrameHeaderBytes bytes{};
  Put(bytes, 0, kFrameMagic, 4);
  Put(bytes, 4, kFrameVersion, 1);
  Put(bytes, 5, static_cast<std::uint32_t>(message.descriptors.size()), 1);
  Put(bytes, 8, static_cast<std::uint32_t>(message.body.size()), 4);
  Put(bytes, 12, Hash(message.body), 4);
  return bytes;
}

Result<FrameHeader> DecodeFrameHeader(std::span<const std::byte, kFrameHeaderBytes> bytes) {
  if (Take(bytes, 0, 4) != kFrameMagic)
    return Fail(Code::kProtocol, "the peer does not speak belay's protocol (magic)");
  if (Take(bytes, 4, 1) != kFrameVersion) {
    return Fail(Code::kProtocolVersion, "the peer's frames have version ", Take(bytes, 4, 1), ", ours ",
                static_cast<int>(kFrameVersion));
  }
  if (Take(bytes, 6, 2) != 0) return Fail(Code::kProtocol, "reserved bytes of a frame are not zero");
  const FrameHeader header{.descriptor_count = static_cast<std::uint8_t>(Take(bytes, 5, 1)),
                           .body_bytes = Take(bytes, 8, 4),
                           .body_hash = Take(bytes, 12, 4)};
  if (header.descriptor_count > kDescriptorsMax) {
    return Fail(Code::kLimitExceeded, static_cast<int>(header.descriptor_count),
                " descriptors announced, the limit is ", kDescriptorsMax);
  }
  if (header.body_bytes > kMessageBytesMax) {
    return Fail(Code::kLimitExceeded, "a message of ", header.body_bytes, " bytes announced, the limit is ",
                kMessageBytesMax);
  }
  return header;
}

Status CheckFrameBody(const FrameHeader& header, std::string_view body) {
  if (body.size() != header.body_bytes) return Fail(Code::kProtocol, "the body's size is not the header's");
  if (Hash(body) != header.body_hash) return Fail(Code::kProtocol, "the body's hash is not the header's");
  return {};
}

}  // namespace belay::base
