// TensorBoard event files, written without TensorBoard or protobuf: TFRecord frames around small Event messages.
//
// A record: u64 length | u32 masked CRC32C of the length | bytes | u32 masked CRC32C of the bytes, all little-endian
// (TensorFlow, tsl/lib/io/record_writer.h). An Event: tensorflow/core/util/event.proto; of it we use wall_time, step,
// file_version and summary values: scalars as simple_value, texts as string tensors of the "text" plugin.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace belay::runtime {

std::uint32_t MaskedCrc32c(std::string_view bytes);
std::string FrameRecord(std::string_view bytes);

// The first record of a file.
std::string EncodeFileVersion(double wall_seconds);
using NamedScalars = std::vector<std::pair<std::string, double>>;
std::string EncodeScalars(double wall_seconds, std::int64_t step, const NamedScalars& values);
std::string EncodeText(double wall_seconds, std::int64_t step, std::string_view name, std::string_view text);

}  // namespace belay::runtime
