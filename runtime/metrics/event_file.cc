#include "runtime/metrics/event_file.h"

#include <isa-l/crc.h>

#include <bit>

namespace belay::runtime {
namespace {

template <typename T>
void AppendLittleEndian(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<char>((value >> (8 * i)) & 0xFF));
}

// Just enough of protobuf's wire format.
class Message {
 public:
  void Int(unsigned field, std::int64_t value) {
    Varint(field << 3U);
    Varint(static_cast<std::uint64_t>(value));
  }
  void Double(unsigned field, double value) {
    Varint(field << 3U | 1U);
    AppendLittleEndian(bytes_, std::bit_cast<std::uint64_t>(value));
  }
  void Float(unsigned field, float value) {
    Varint(field << 3U | 5U);
    AppendLittleEndian(bytes_, std::bit_cast<std::uint32_t>(value));
  }
  void Bytes(unsigned field, std::string_view value) {
    Varint(field << 3U | 2U);
    Varint(value.size());
    bytes_.append(value);
  }
  void Sub(unsigned field, const Message& value) { Bytes(field, value.bytes_); }
  const std::string& bytes() const { return bytes_; }

 private:
  void Varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7U) bytes_.push_back(static_cast<char>(value | 0x80));
    bytes_.push_back(static_cast<char>(value));
  }
  std::string bytes_;
};

// Field numbers of event.proto, summary.proto, tensor.proto.
constexpr unsigned kEventWallTime = 1, kEventStep = 2, kEventFileVersion = 3, kEventSummary = 5;
constexpr unsigned kSummaryValue = 1, kValueTag = 1, kValueSimple = 2, kValueTensor = 8, kValueMetadata = 9;
constexpr unsigned kMetadataPlugin = 1, kPluginName = 1;
constexpr unsigned kTensorDtype = 1, kTensorShape = 2, kTensorString = 8, kShapeDimension = 2, kDimensionSize = 1;
constexpr std::int64_t kDtString = 7;

Message Event(double wall_seconds, std::int64_t step, const Message& summary) {
  Message event;
  event.Double(kEventWallTime, wall_seconds);
  event.Int(kEventStep, step);
  event.Sub(kEventSummary, summary);
  return event;
}

}  // namespace

std::uint32_t MaskedCrc32c(std::string_view bytes) {
  // ISA-L starts and ends without the inversion that CRC32C has by definition. Its `int` length is no limit for a
  // record.
  auto* data = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data()));
  const std::uint32_t crc = ~crc32_iscsi(data, static_cast<int>(bytes.size()), 0xFFFFFFFFU);
  return std::rotr(crc, 15) + 0xA282EAD8U;
}

std::string FrameRecord(std::string_view bytes) {
  std::string record;
  AppendLittleEndian(record, static_cast<std::uint64_t>(bytes.size()));
  AppendLittleEndian(record, MaskedCrc32c(record));
  record.append(bytes);
  AppendLittleEndian(record, MaskedCrc32c(bytes));
  return record;
}

std::string EncodeFileVersion(double wall_seconds) {
  Message event;
  event.Double(kEventWallTime, wall_seconds);
  event.Bytes(kEventFileVersion, "brain.Event:2");
  return event.bytes();
}

std::string EncodeScalars(double wall_seconds, std::int64_t step, const NamedScalars& values) {
  Message summary;
  for (const auto& [name, number] : values) {
    Message value;
    value.Bytes(kValueTag, name);
    value.Float(kValueSimple, static_cast<float>(number));
    summary.Sub(kSummaryValue, value);
  }
  return Event(wall_seconds, step, summary).bytes();
}

std::string EncodeText(double wall_seconds, std::int64_t step, std::string_view name, std::string_view text) {
  Message plugin, metadata, dimension, shape, tensor, value, summary;
  plugin.Bytes(kPluginName, "text");
  metadata.Sub(kMetadataPlugin, plugin);
  dimension.Int(kDimensionSize, 1);
  shape.Sub(kShapeDimension, dimension);
  tensor.Int(kTensorDtype, kDtString);
  tensor.Sub(kTensorShape, shape);
  tensor.Bytes(kTensorString, text);
  value.Bytes(kValueTag, name);
  value.Sub(kValueTensor, tensor);
  value.Sub(kValueMetadata, metadata);
  summary.Sub(kSummaryValue, value);
  return Event(wall_seconds, step, summary).bytes();
}

}  // namespace belay::runtime
