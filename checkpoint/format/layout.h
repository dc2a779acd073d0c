// What a rank's state looks like: tensors by name, dtype, global shape and the box of it that this rank holds.
//
// Pure data. A layout is described once at start-up; its fingerprint travels with every snapshot, so that a change is
// noticed. Names are "<part>.<name inside the part>" in files ("model.blocks.0.weight"), so that one folder of shards
// can be loaded as one flat state dict.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/ids.h"
#include "runtime/base/result.h"

namespace belay::checkpoint {

// Limits on what a layout may hold; over them is kLimitExceeded.
inline constexpr std::size_t kTensorsPerRankMax = 1'000'000;
inline constexpr std::size_t kPartsPerRankMax = 64;
inline constexpr std::size_t kNameBytesMax = 1024;
inline constexpr std::size_t kDimensionsMax = 32;
inline constexpr std::size_t kLayoutTextBytesMax = std::size_t{256} << 20;
inline constexpr std::uint64_t kTensorBytesMax = std::uint64_t{1} << 60;

enum class DType : std::uint8_t {
  kF64,
  kF32,
  kF16,
  kBF16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
  kC64,
  kC128,
  kF8E4M3,
  kF8E5M2,  // stored as U8 with the true name in our own header entry: PyTorch's reader does not know them
};
std::uint64_t DTypeBytes(DType dtype);
std::string_view DTypeName(DType dtype);                    // safetensors spelling: "F32", "BF16", "BOOL"
std::optional<DType> DTypeFromName(std::string_view name);  // none for a name we do not know

// An axis-aligned part of a tensor: per dimension where it begins and how long it is. Empty vectors are a scalar.
struct Box {
  std::vector<std::int64_t> offsets;
  std::vector<std::int64_t> lengths;
  friend bool operator==(const Box&, const Box&) = default;
};

struct TensorSpec {
  std::string name;  // inside its part
  DType dtype = DType::kF32;
  std::vector<std::int64_t> global_shape;
  Box box;  // what this rank holds, row-major and contiguous
  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

struct PartLayout {
  std::string part;  // [a-z][a-z0-9_]*: one shard file a rank and part
  std::vector<TensorSpec> tensors;
  // These do not change while the program runs (the base of a LoRA model): they go into a file of their own, which
  // later checkpoints share. A part may have both kinds; a tensor's name is of one of them.
  bool frozen = false;
  friend bool operator==(const PartLayout&, const PartLayout&) = default;
};

// All that one rank holds and can write. A tensor that only one rank should write (BatchNorm buffers, say) is described
// by that rank alone.
struct RankLayout {
  base::Rank rank;
  std::vector<PartLayout> parts;
  friend bool operator==(const RankLayout&, const RankLayout&) = default;
};

// A tensor's name inside its part: 1-1024 bytes of UTF-8 without control characters. kInvalidArgument or
// kLimitExceeded.
base::Status ValidateTensorName(std::string_view name);
// Shape without negative dimensions, bytes without overflow, box inside the shape. Same codes.
base::Status ValidateExtent(DType dtype, const std::vector<std::int64_t>& global_shape, const Box& box);
// [a-z][a-z0-9_]*, at most 64 bytes.
bool IsPartName(std::string_view part);
// A part at most once of each kind, names unique, boxes inside shapes, sizes without overflow, counts within limits.
// kInvalidArgument or kLimitExceeded.
base::Status ValidateLayout(const RankLayout& layout);

// A stable 128-bit hash, as 32 hex digits, of everything in the layout but the rank.
std::string LayoutFingerprint(const RankLayout& layout);

// Compact, versioned text form for the exchange between ranks (FORMAT.md, "Layout text"). The layout must be valid.
// Decoding takes untrusted text and accepts only what EncodeLayout writes: kCorrupt, kFormatVersion, or
// ValidateLayout's codes.
std::string EncodeLayout(const RankLayout& layout);
base::Result<RankLayout> DecodeLayout(std::string_view text);

}  // namespace belay::checkpoint
