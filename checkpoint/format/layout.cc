#include "checkpoint/format/layout.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <set>
#include <unordered_set>

#include "checkpoint/format/boxes.h"
#include "checkpoint/format/digest.h"
#include "checkpoint/format/strict_json.h"

namespace belay::checkpoint {

using base::Code;
using base::Fail;

namespace {

struct DTypeInfo {
  DType dtype;
  std::uint64_t bytes;
  std::string_view name;
};
// In the order of the enum.
constexpr std::array kDTypes = {
    DTypeInfo{DType::kF64, 8, "F64"},        DTypeInfo{DType::kF32, 4, "F32"},
    DTypeInfo{DType::kF16, 2, "F16"},        DTypeInfo{DType::kBF16, 2, "BF16"},
    DTypeInfo{DType::kI64, 8, "I64"},        DTypeInfo{DType::kI32, 4, "I32"},
    DTypeInfo{DType::kI16, 2, "I16"},        DTypeInfo{DType::kI8, 1, "I8"},
    DTypeInfo{DType::kU64, 8, "U64"},        DTypeInfo{DType::kU32, 4, "U32"},
    DTypeInfo{DType::kU16, 2, "U16"},        DTypeInfo{DType::kU8, 1, "U8"},
    DTypeInfo{DType::kBool, 1, "BOOL"},      DTypeInfo{DType::kC64, 8, "C64"},
    DTypeInfo{DType::kC128, 16, "C128"},     DTypeInfo{DType::kF8E4M3, 1, "F8_E4M3"},
    DTypeInfo{DType::kF8E5M2, 1, "F8_E5M2"},
};
static_assert([] {
  for (std::size_t i = 0; i < kDTypes.size(); ++i) {
    if (static_cast<std::size_t>(kDTypes[i].dtype) != i) return false;
  }
  return true;
}());

constexpr std::string_view kMagic = "belay-layout";
constexpr std::string_view kVersion = "1";

void AppendNumbers(std::string& out, const std::vector<std::int64_t>& numbers) {
  if (numbers.empty()) out += '-';
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    if (i > 0) out += ',';
    out += std::to_string(numbers[i]);
  }
}

void AppendParts(std::string& out, const RankLayout& layout) {
  for (const PartLayout& part : layout.parts) {
    out += (part.frozen ? "frozen " : "part ") + part.part + " " + std::to_string(part.tensors.size()) + "\n";
    for (const TensorSpec& tensor : part.tensors) {
      out += DTypeName(tensor.dtype);
      out += ' ';
      AppendNumbers(out, tensor.global_shape);
      out += ' ';
      if (tensor.box == WholeBox(tensor.global_shape)) {
        out += '*';
      } else {
        AppendNumbers(out, tensor.box.offsets);
        out += ':';
        AppendNumbers(out, tensor.box.lengths);
      }
      out += ' ';
      out += tensor.name;
      out += '\n';
    }
  }
}

// The text up to `separator`, which is taken too; none if there is no separator.
std::optional<std::string_view> Take(std::string_view& text, char separator) {
  const std::size_t at = text.find(separator);
  if (at == std::string_view::npos) return std::nullopt;
  const std::string_view taken = text.substr(0, at);
  text.remove_prefix(at + 1);
  return taken;
}

// Canonical decimal only: no sign but "-", no leading zero, no "-0".
template <typename Int>
std::optional<Int> ParseNumber(std::string_view text) {
  Int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || std::to_string(value) != text) return std::nullopt;
  return value;
}

std::optional<std::vector<std::int64_t>> ParseNumbers(std::string_view text) {
  std::vector<std::int64_t> numbers;
  if (text == "-") return numbers;
  while (true) {
    const std::size_t comma = text.find(',');
    const auto number = ParseNumber<std::int64_t>(text.substr(0, comma));
    if (!number || numbers.size() == kDimensionsMax) return std::nullopt;
    numbers.push_back(*number);
    if (comma == std::string_view::npos) return numbers;
    text.remove_prefix(comma + 1);
  }
}

std::optional<TensorSpec> ParseTensor(std::string_view line) {
  const auto dtype_text = Take(line, ' '), shape_text = Take(line, ' '), box_text = Take(line, ' ');
  if (!dtype_text || !shape_text || !box_text) return std::nullopt;
  const auto dtype = DTypeFromName(*dtype_text);
  auto shape = ParseNumbers(*shape_text);
  if (!dtype || !shape) return std::nullopt;
  TensorSpec tensor{std::string(line), *dtype, std::move(*shape), {}};
  if (*box_text == "*") {
    tensor.box = WholeBox(tensor.global_shape);
    return tensor;
  }
  std::string_view lengths_text = *box_text;
  const auto offsets_text = Take(lengths_text, ':');
  if (!offsets_text) return std::nullopt;
  auto offsets = ParseNumbers(*offsets_text), lengths = ParseNumbers(lengths_text);
  if (!offsets || !lengths) return std::nullopt;
  tensor.box = Box{std::move(*offsets), std::move(*lengths)};
  if (tensor.box == WholeBox(tensor.global_shape)) return std::nullopt;  // would be written "*"
  return tensor;
}

}  // namespace

std::uint64_t DTypeBytes(DType dtype) { return kDTypes.at(static_cast<std::size_t>(dtype)).bytes; }
std::string_view DTypeName(DType dtype) { return kDTypes.at(static_cast<std::size_t>(dtype)).name; }
std::optional<DType> DTypeFromName(std::string_view name) {
  for (const DTypeInfo& info : kDTypes) {
    if (info.name == name) return info.dtype;
  }
  return std::nullopt;
}

bool IsPartName(std::string_view part) {
  const auto lower = [](char c) { return c >= 'a' && c <= 'z'; };
  return !part.empty() && part.size() <= 64 && lower(part[0]) &&
         std::all_of(part.begin(), part.end(), [&](char c) { return lower(c) || (c >= '0' && c <= '9') || c == '_'; });
}

base::Status ValidateTensorName(std::string_view name) {
  if (name.empty()) return Fail(Code::kInvalidArgument, "a tensor has no name");
  if (name.size() > kNameBytesMax) {
    return Fail(Code::kLimitExceeded, "a tensor's name has ", name.size(), " bytes; the limit is ", kNameBytesMax);
  }
  const bool control =
      std::any_of(name.begin(), name.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
  if (control || !IsUtf8(name)) {
    return Fail(Code::kInvalidArgument, "the tensor name ", JsonString(name),
                " is not UTF-8 or has control characters");
  }
  return {};
}

base::Status ValidateExtent(DType dtype, const std::vector<std::int64_t>& global_shape, const Box& box) {
  if (global_shape.size() > kDimensionsMax) {
    return Fail(Code::kLimitExceeded, global_shape.size(), " dimensions; the limit is ", kDimensionsMax);
  }
  for (const std::int64_t length : global_shape) {
    if (length < 0) return Fail(Code::kInvalidArgument, "the shape has the negative dimension ", length);
  }
  if (!CheckedBytes(global_shape, DTypeBytes(dtype))) {
    return Fail(Code::kLimitExceeded, "the tensor has more than ", kTensorBytesMax, " bytes");
  }
  if (box.offsets.size() != global_shape.size() || box.lengths.size() != global_shape.size()) {
    return Fail(Code::kInvalidArgument, "the box has ", box.offsets.size(), " offsets and ", box.lengths.size(),
                " lengths for ", global_shape.size(), " dimensions");
  }
  for (std::size_t d = 0; d < global_shape.size(); ++d) {
    // Written so that nothing overflows.
    if (box.offsets[d] < 0 || box.lengths[d] < 0 || box.offsets[d] > global_shape[d] ||
        box.lengths[d] > global_shape[d] - box.offsets[d]) {
      return Fail(Code::kInvalidArgument, "dimension ", d, ": the box at ", box.offsets[d], " of length ",
                  box.lengths[d], " is not inside ", global_shape[d]);
    }
  }
  return {};
}

base::Status ValidateLayout(const RankLayout& layout) {
  if (layout.rank.value() < 0) return Fail(Code::kInvalidArgument, "the rank is ", layout.rank);
  if (layout.parts.size() > kPartsPerRankMax) {
    return Fail(Code::kLimitExceeded, layout.parts.size(), " parts; the limit is ", kPartsPerRankMax);
  }
  std::size_t count = 0;
  std::set<std::pair<std::string_view, bool>> parts;
  std::map<std::string_view, std::unordered_set<std::string_view>> names_of;
  for (const PartLayout& part : layout.parts) {
    if (!IsPartName(part.part)) {
      return Fail(Code::kInvalidArgument, "the part name ", JsonString(part.part), " is not [a-z][a-z0-9_]*");
    }
    if (!parts.emplace(part.part, part.frozen).second) {
      return Fail(Code::kInvalidArgument, "two parts are named ", part.part);
    }
    count += part.tensors.size();
    if (count > kTensorsPerRankMax) {
      return Fail(Code::kLimitExceeded, count, " tensors; the limit is ", kTensorsPerRankMax);
    }
    std::unordered_set<std::string_view>& names = names_of[part.part];
    names.reserve(names.size() + part.tensors.size());
    for (const TensorSpec& tensor : part.tensors) {
      BELAY_TRY(ValidateTensorName(tensor.name));
      if (static_cast<std::size_t>(tensor.dtype) >= kDTypes.size()) {
        return Fail(Code::kInvalidArgument, part.part, ".", tensor.name, " has no dtype that we know");
      }
      if (auto extent = ValidateExtent(tensor.dtype, tensor.global_shape, tensor.box); !extent) {
        return base::Wrap(std::move(extent).error(), part.part, ".", tensor.name);
      }
      if (!names.insert(tensor.name).second) {
        return Fail(Code::kInvalidArgument, "two tensors are named ", part.part, ".", tensor.name);
      }
    }
  }
  return {};
}

std::string LayoutFingerprint(const RankLayout& layout) {
  std::string text(kVersion);
  text += '\n';
  AppendParts(text, layout);
  return ToHex(DigestChunk(std::as_bytes(std::span(text))));
}

std::string EncodeLayout(const RankLayout& layout) {
  std::string text = base::Str(kMagic, " ", kVersion, " ", layout.rank, " ", layout.parts.size(), "\n");
  AppendParts(text, layout);
  return text;
}

base::Result<RankLayout> DecodeLayout(std::string_view text) {
  if (text.size() > kLayoutTextBytesMax) {
    return Fail(Code::kLimitExceeded, "a layout of ", text.size(), " bytes; the limit is ", kLayoutTextBytesMax);
  }
  std::size_t line_number = 0;
  const auto corrupt = [&](std::string_view what) {
    return Fail(Code::kCorrupt, "layout, line ", line_number, ": ", what);
  };
  const auto next_line = [&] {
    ++line_number;
    return Take(text, '\n');
  };

  auto line = next_line();
  if (!line) return corrupt("no first line");
  std::string_view rest = *line;
  if (Take(rest, ' ') != kMagic) return corrupt("not a belay layout");
  const auto version = Take(rest, ' ');
  if (!version) return corrupt("no version");
  if (*version != kVersion) return Fail(Code::kFormatVersion, "layout version ", JsonString(version->substr(0, 20)));
  const auto rank_text = Take(rest, ' ');
  const auto rank = rank_text ? ParseNumber<std::int32_t>(*rank_text) : std::nullopt;
  const auto part_count = ParseNumber<std::size_t>(rest);
  if (!rank || !part_count) return corrupt("wants a rank and the number of parts");
  if (*part_count > kPartsPerRankMax) return Fail(Code::kLimitExceeded, *part_count, " parts");

  RankLayout layout{base::Rank(*rank), {}};
  for (std::size_t p = 0; p < *part_count; ++p) {
    line = next_line();
    if (!line) return corrupt("a part is missing");
    rest = *line;
    const auto word = Take(rest, ' '), name = Take(rest, ' ');
    const auto tensor_count = ParseNumber<std::size_t>(rest);
    const bool frozen = word == "frozen";
    if ((word != "part" && !frozen) || !name || !tensor_count) return corrupt("wants a part");
    if (*tensor_count > kTensorsPerRankMax) return Fail(Code::kLimitExceeded, *tensor_count, " tensors");
    PartLayout& part = layout.parts.emplace_back(PartLayout{std::string(*name), {}, frozen});
    for (std::size_t t = 0; t < *tensor_count; ++t) {
      line = next_line();
      auto tensor = line ? ParseTensor(*line) : std::nullopt;
      if (!tensor) return corrupt("wants a tensor");
      part.tensors.push_back(std::move(*tensor));
    }
  }
  if (!text.empty()) return corrupt("more text than the counts say");
  BELAY_TRY(ValidateLayout(layout));
  return layout;
}

}  // namespace belay::checkpoint
