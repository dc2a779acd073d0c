#include "runtime/state/tensors.h"

#include <array>
#include <cstdio>
#include <utility>

#include "runtime/base/str.h"

namespace belay::runtime {
namespace {

using checkpoint::DType;
constexpr std::array kTypes = {
    std::pair{at::kDouble, DType::kF64},         std::pair{at::kFloat, DType::kF32},
    std::pair{at::kHalf, DType::kF16},           std::pair{at::kBFloat16, DType::kBF16},
    std::pair{at::kLong, DType::kI64},           std::pair{at::kInt, DType::kI32},
    std::pair{at::kShort, DType::kI16},          std::pair{at::kChar, DType::kI8},
    std::pair{at::kUInt64, DType::kU64},         std::pair{at::kUInt32, DType::kU32},
    std::pair{at::kUInt16, DType::kU16},         std::pair{at::kByte, DType::kU8},
    std::pair{at::kBool, DType::kBool},          std::pair{at::kComplexFloat, DType::kC64},
    std::pair{at::kComplexDouble, DType::kC128}, std::pair{at::kFloat8_e4m3fn, DType::kF8E4M3},
    std::pair{at::kFloat8_e5m2, DType::kF8E5M2},
};

}  // namespace

std::optional<DType> ToDType(at::ScalarType type) {
  for (const auto& [scalar, dtype] : kTypes) {
    if (scalar == type) return dtype;
  }
  return std::nullopt;
}

std::string DescribeTensor(DType dtype, const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const auto length : shape) text += base::Str(text.size() > 1 ? ", " : "", length);
  return base::Str(text, "] ", checkpoint::DTypeName(dtype));
}

std::string PerRankName(base::Rank rank) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "rank-%05d", rank.value());
  return text.data();
}

}  // namespace belay::runtime
