// The frame around a message on a stream: 16 bytes, little-endian, then the body.
//
//   offset size meaning
//        0    4 magic 0x594C4542, "BELY"
//        4    1 frame version, 1
//        5    1 count of descriptors that come with the header's bytes, at most 64
//        6    2 reserved, 0
//        8    4 bytes of the body, at most 64 MiB
//       12    4 low half of the XXH3-64 of the body
//
// Pure. A header that breaks one of these rules ends the connection: there is no way to find the next frame.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "runtime/base/result.h"
#include "runtime/base/transport.h"

namespace belay::base {

inline constexpr std::size_t kFrameHeaderBytes = 16;
inline constexpr std::uint32_t kFrameMagic = 0x594C4542;
inline constexpr std::uint8_t kFrameVersion = 1;

using FrameHeaderBytes = std::array<std::byte, kFrameHeaderBytes>;

struct FrameHeader {
  std::uint8_t descriptor_count = 0;
  std::uint32_t body_bytes = 0;
  std::uint32_t body_hash = 0;
};

// kLimitExceeded: too many bytes or descriptors.
Result<FrameHeaderBytes> EncodeFrameHeader(const Message& message);
// kProtocol: magic or reserved bytes; kProtocolVersion; kLimitExceeded.
Result<FrameHeader> DecodeFrameHeader(std::span<const std::byte, kFrameHeaderBytes> bytes);
// kProtocol: the body is not what the header says.
Status CheckFrameBody(const FrameHeader& header, std::string_view body);

}  // namespace belay::base
