#include "checkpoint/format/shard_file.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>

#include "checkpoint/format/boxes.h"
#include "checkpoint/format/manifest.h"
#include "checkpoint/format/strict_json.h"
#include "runtime/base/check.h"

namespace belay::checkpoint {

using base::Code;
using base::Fail;
using nlohmann::json;

namespace {

constexpr std::uint64_t kHeaderAlignment = 4096;
constexpr std::uint64_t kLengthBytes = 8;
constexpr std::string_view kVersion = "1";

bool IsDisguised(DType dtype) { return StoredAs(dtype).dtype != DTypeName(dtype); }

bool EntryLess(const ShardEntry& a, const ShardEntry& b) {
  const std::uint64_t a_bytes = DTypeBytes(a.dtype), b_bytes = DTypeBytes(b.dtype);
  return a_bytes != b_bytes ? a_bytes > b_bytes : a.name < b.name;
}

// Empty tensors lie where the next one begins, and come before it.
bool InDataOrder(const ShardEntry& a, const ShardEntry& b) {
  const auto place = [](const ShardEntry& entry) { return std::pair(entry.data_offset, entry.bytes > 0); };
  return place(a) != place(b) ? place(a) < place(b) : EntryLess(a, b);
}

void AppendNumbers(std::string& out, const std::vector<std::int64_t>& numbers, std::optional<std::int64_t> more = {}) {
  out += '[';
  bool first = true;
  const auto append = [&](std::int64_t number) {
    if (!first) out += ',';
    first = false;
    out += std::to_string(number);
  };
  for (const std::int64_t number : numbers) append(number);
  if (more) append(*more);
  out += ']';
}

// {"name":VALUE,...} over the entries for which `append` wants one.
template <typename Wanted, typename Append>
std::string MapText(const ShardPlan& plan, Wanted wanted, Append append) {
  std::string text = "{";
  for (const ShardEntry& entry : plan.entries) {
    if (!wanted(entry)) continue;
    if (text.size() > 1) text += ',';
    text += JsonString(entry.name) + ":";
    append(text, entry);
  }
  return text + "}";
}

std::string IdentityText(const ShardIdentity& identity) {
  return base::Str("{\"project\":", JsonString(identity.project), ",\"job\":", JsonString(identity.job),
                   ",\"step\":", identity.step, ",\"generation\":", identity.generation, ",\"rank\":", identity.rank,
                   ",\"world_size\":", identity.world_size, "}");
}

// The header's JSON without padding.
std::string HeaderText(const ShardPlan& plan, const ShardIdentity& identity, std::string_view digests_hex) {
  const auto always = [](const ShardEntry&) { return true; };
  const std::string offsets = MapText(plan, always, [](std::string& out, const ShardEntry& entry) {
    out += "{\"saved_offsets\":";
    AppendNumbers(out, entry.box.offsets, StoredAs(entry.dtype).more ? std::optional<std::int64_t>(0) : std::nullopt);
    out += '}';
  });
  const std::string shapes =
      MapText(plan, always, [](std::string& out, const ShardEntry& entry) { AppendNumbers(out, entry.global_shape); });
  const std::string dtypes = MapText(
      plan, [](const ShardEntry& entry) { return IsDisguised(entry.dtype); },
      [](std::string& out, const ShardEntry& entry) { out += JsonString(DTypeName(entry.dtype)); });

  std::string text = "{\"__metadata__\":{\"format\":\"pt\",\"belay.version\":\"" + std::string(kVersion) + "\"";
  text += ",\"belay.identity\":" + JsonString(IdentityText(identity));
  text += ",\"belay.chunk_bytes\":\"" + std::to_string(kChunkBytes) + "\"";
  text += ",\"belay.digests\":\"" + std::string(digests_hex) + "\"";
  if (dtypes != "{}") text += ",\"belay.dtypes\":" + JsonString(dtypes);
  text += ",\"belay.global_shapes\":" + JsonString(shapes);
  text += ",\"DCP_SHARDING_INFO\":" + JsonString(offsets) + "}";
  for (const ShardEntry& entry : plan.entries) {
    const Stored stored = StoredAs(entry.dtype);
    text += "," + JsonString(entry.name) + ":{\"dtype\":\"" + std::string(stored.dtype) + "\",\"shape\":";
    AppendNumbers(text, entry.box.lengths, stored.more ? std::optional(stored.more) : std::nullopt);
    text += ",\"data_offsets\":[" + std::to_string(entry.data_offset) + "," +
            std::to_string(entry.data_offset + entry.bytes) + "]}";
  }
  return text + "}";
}

// The longest identity there can be, so that a plan leaves room for any.
ShardIdentity LongestIdentity() {
  return ShardIdentity{std::string(kRunNameBytesMax, 'x'),
                       std::string(kRunNameBytesMax, 'x'),
                       base::Step(std::numeric_limits<std::int64_t>::max()),
                       base::Generation(std::numeric_limits<std::uint64_t>::max()),
                       base::Rank(std::numeric_limits<std::int32_t>::max()),
                       std::numeric_limits<std::int32_t>::max()};
}

std::optional<std::vector<std::int64_t>> Numbers(const json& value) {
  if (!value.is_array() || value.size() > kDimensionsMax + 1) return std::nullopt;
  std::vector<std::int64_t> numbers;
  for (const json& number : value) {
    if (!number.is_number_unsigned()) return std::nullopt;
    const auto wide = number.get<std::uint64_t>();
    if (wide > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
    numbers.push_back(static_cast<std::int64_t>(wide));
  }
  return numbers;
}

// A metadata value that is itself JSON.
base::Result<json> Embedded(const json& metadata, const char* key) {
  const auto at = metadata.find(key);
  if (at == metadata.end()) return Fail(Code::kCorrupt, "the header has no ", key);
  const auto& text = at->get_ref<const std::string&>();
  if (auto checked = CheckJson(text, 3); !checked) return base::Wrap(std::move(checked).error(), key);
  return json::parse(text);
}

base::Result<ShardIdentity> DecodeIdentity(const json& value) {
  const auto number = [&](const char* key, std::uint64_t max) -> std::optional<std::uint64_t> {
    const auto at = value.find(key);
    if (at == value.end() || !at->is_number_unsigned() || at->get<std::uint64_t>() > max) return std::nullopt;
    return at->get<std::uint64_t>();
  };
  const auto text = [&](const char* key) {
    const auto at = value.find(key);
    return at != value.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  constexpr std::uint64_t kMax32 = std::numeric_limits<std::int32_t>::max();
  const auto step = number("step", std::numeric_limits<std::int64_t>::max());
  const auto generation = number("generation", std::numeric_limits<std::uint64_t>::max());
  const auto rank = number("rank", kMax32), world_size = number("world_size", kMax32);
  ShardIdentity identity;
  identity.project = text("project");
  identity.job = text("job");
  if (!step || !generation || !rank || !world_size || *rank >= *world_size ||
      !ValidateName("project", identity.project) || !ValidateName("job", identity.job)) {
    return Fail(Code::kCorrupt, "the header's identity is not one");
  }
  identity.step = base::Step(static_cast<std::int64_t>(*step));
  identity.generation = base::Generation(*generation);
  identity.rank = base::Rank(static_cast<std::int32_t>(*rank));
  identity.world_size = static_cast<std::int32_t>(*world_size);
  return identity;
}

// One tensor as the plain format has it: the box is whole.
base::Result<ShardEntry> DecodeEntry(const std::string& name, const json& value) {
  const auto wrong = [&](std::string_view what) {
    return Fail(Code::kCorrupt, "tensor ", JsonString(name), ": ", what);
  };
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets")) {
    return wrong("wants dtype, shape and data_offsets, nothing else");
  }
  if (!value["dtype"].is_string()) return wrong("the dtype is not a string");
  const auto& dtype_name = value["dtype"].get_ref<const std::string&>();
  const auto dtype = DTypeFromName(dtype_name);
  if (!dtype)
    return Fail(Code::kFormatVersion, "tensor ", JsonString(name), ": unknown dtype ", JsonString(dtype_name));
  auto shape = Numbers(value["shape"]);
  const auto offsets = Numbers(value["data_offsets"]);
  if (!shape) return wrong("the shape is not one");
  if (!offsets || offsets->size() != 2 || (*offsets)[1] < (*offsets)[0]) return wrong("the data offsets are not two");
  const auto bytes = CheckedBytes(*shape, DTypeBytes(*dtype));
  if (!bytes || *bytes != static_cast<std::uint64_t>((*offsets)[1] - (*offsets)[0])) {
    return wrong("shape and data offsets disagree");
  }
  ShardEntry entry{name, *dtype, *shape, WholeBox(*shape), static_cast<std::uint64_t>((*offsets)[0]), *bytes};
  return entry;
}

// Adds what our own metadata says about a piece of a global tensor.
base::Status DecodePlace(ShardEntry& entry, const json& offsets, const json& shapes, const json& dtypes) {
  const auto wrong = [&](std::string_view what) {
    return Fail(Code::kCorrupt, "tensor ", JsonString(entry.name), ": ", what);
  };
  const auto place = offsets.find(entry.name), shape = shapes.find(entry.name), true_dtype = dtypes.find(entry.name);
  if (place == offsets.end() || !place->is_object() || !place->contains("saved_offsets"))
    return wrong("no saved offsets");
  auto saved = Numbers((*place)["saved_offsets"]);
  auto global = shape != shapes.end() ? Numbers(*shape) : std::nullopt;
  if (!saved || !global) return wrong("no saved offsets or global shape");
  if (saved->size() != entry.box.lengths.size()) return wrong("saved offsets and shape differ in length");
  if (true_dtype != dtypes.end()) {
    const auto dtype =
        true_dtype->is_string() ? DTypeFromName(true_dtype->get_ref<const std::string&>()) : std::nullopt;
    if (!dtype)
      return Fail(Code::kFormatVersion, "tensor ", JsonString(entry.name), ": unknown dtype ", true_dtype->dump());
    const Stored stored = StoredAs(*dtype);
    if (!IsDisguised(*dtype) || stored.dtype != DTypeName(entry.dtype)) return wrong("the two dtypes do not fit");
    if (stored.more != 0) {
      if (saved->empty() || saved->back() != 0 || entry.box.lengths.back() != stored.more) {
        return wrong("the last dimension does not fit the dtype");
      }
      saved->pop_back();
      entry.box.lengths.pop_back();
    }
    entry.dtype = *dtype;
  } else if (IsDisguised(entry.dtype)) {
    return wrong("the dtype is one we do not write");
  }
  entry.box.offsets = std::move(*saved);
  entry.global_shape = std::move(*global);
  if (auto inside = ValidateExtent(entry.dtype, entry.global_shape, entry.box); !inside) {
    return wrong(inside.error().message);
  }
  return {};
}

base::Status DecodeOurs(ShardHeader& header, const json& metadata) {
  BELAY_ASSIGN(const json identity, Embedded(metadata, "belay.identity"));
  BELAY_ASSIGN(header.identity, DecodeIdentity(identity));
  if (metadata.value("belay.chunk_bytes", "") != std::to_string(kChunkBytes)) {
    return Fail(Code::kFormatVersion, "the digests are not over chunks of ", kChunkBytes, " bytes");
  }
  if (!metadata.contains("belay.digests")) return Fail(Code::kCorrupt, "the header has no digests");
  BELAY_ASSIGN(header.digests, ParseDigests(metadata["belay.digests"].get_ref<const std::string&>()));
  if (header.digests.size() != ChunkCount(header.plan.data_bytes)) {
    return Fail(Code::kCorrupt, header.digests.size(), " digests for ", header.plan.data_bytes, " bytes of data");
  }
  BELAY_ASSIGN(const json offsets, Embedded(metadata, "DCP_SHARDING_INFO"));
  BELAY_ASSIGN(const json shapes, Embedded(metadata, "belay.global_shapes"));
  json dtypes = json::object();
  if (metadata.contains("belay.dtypes")) {
    BELAY_ASSIGN(dtypes, Embedded(metadata, "belay.dtypes"));
  }
  for (ShardEntry& entry : header.plan.entries) BELAY_TRY(DecodePlace(entry, offsets, shapes, dtypes));
  // Every tensor was found in the lists; equal counts say that the lists name nothing else.
  const std::size_t count = header.plan.entries.size();
  const auto disguised = std::count_if(header.plan.entries.begin(), header.plan.entries.end(),
                                       [](const ShardEntry& entry) { return IsDisguised(entry.dtype); });
  if (offsets.size() != count || shapes.size() != count || dtypes.size() != static_cast<std::size_t>(disguised)) {
    return Fail(Code::kCorrupt, "the header describes tensors that are not in the file");
  }
  return {};
}

}  // namespace

Stored StoredAs(DType dtype) {
  if (dtype == DType::kF8E4M3 || dtype == DType::kF8E5M2) return {DTypeName(DType::kU8), 0};
  if (dtype == DType::kC128) return {DTypeName(DType::kF64), 2};  // real and imaginary part
  return {DTypeName(dtype), 0};
}

base::Result<std::vector<ShardPlan>> PlanShards(const RankLayout& layout, const std::vector<Piece>& pieces) {
  std::vector<ShardPlan> by_part(layout.parts.size());
  for (const Piece& piece : pieces) {
    if (piece.part >= layout.parts.size() || piece.tensor >= layout.parts[piece.part].tensors.size()) {
      return Fail(Code::kInvalidArgument, "a piece is not of this layout");
    }
    const PartLayout& part = layout.parts[piece.part];
    const TensorSpec& tensor = part.tensors[piece.tensor];
    BELAY_TRY(ValidateExtent(tensor.dtype, tensor.global_shape, piece.box));
    if (!Contains(tensor.box, piece.box)) {
      return Fail(Code::kInvalidArgument, part.part, ".", tensor.name, ": the piece ", BoxText(piece.box),
                  " is not inside ", BoxText(tensor.box));
    }
    by_part[piece.part].entries.push_back(ShardEntry{part.part + "." + tensor.name, tensor.dtype, tensor.global_shape,
                                                     piece.box, 0, ElementCount(piece.box) * DTypeBytes(tensor.dtype)});
  }
  std::vector<ShardPlan> plans;
  for (std::size_t p = 0; p < by_part.size(); ++p) {
    ShardPlan& plan = by_part[p];
    if (plan.entries.empty()) continue;
    std::sort(plan.entries.begin(), plan.entries.end(), EntryLess);
    for (std::size_t i = 0; i < plan.entries.size(); ++i) {
      ShardEntry& entry = plan.entries[i];
      if (i > 0 && plan.entries[i - 1].name == entry.name) {
        return Fail(Code::kInvalidArgument, "two pieces of ", entry.name, " in one file");
      }
      entry.data_offset = plan.data_bytes;
      plan.data_bytes += entry.bytes;
      if (plan.data_bytes > kTensorBytesMax)
        return Fail(Code::kLimitExceeded, "a shard of part ", layout.parts[p].part);
    }
    std::array<char, 32> rank{};
    std::snprintf(rank.data(), rank.size(), "rank-%05d.", layout.rank.value());
    plan.frozen = layout.parts[p].frozen;
    // No part's name has a hyphen, so that nobody's part can be named like this.
    plan.file_name = rank.data() + layout.parts[p].part + (plan.frozen ? "-frozen" : "") + ".safetensors";
    // Digests are counted, not spelled out: a petabyte of nothing has too many.
    const std::uint64_t digest_digits = ChunkCount(plan.data_bytes) * 2 * sizeof(ChunkDigest);
    const std::uint64_t json_bytes = HeaderText(plan, LongestIdentity(), "").size() + digest_digits;
    plan.header_bytes = base::AlignUp(kLengthBytes + json_bytes, kHeaderAlignment);
    if (plan.header_bytes - kLengthBytes > kShardHeaderBytesMax) {
      return Fail(Code::kLimitExceeded, plan.file_name, " would need a header of ", plan.header_bytes,
                  " bytes; the limit is ", kShardHeaderBytesMax);
    }
    plans.push_back(std::move(plan));
  }
  return plans;
}

base::Result<std::string> EncodeShardHeader(const ShardPlan& plan, const ShardIdentity& identity,
                                            const std::vector<ChunkDigest>& digests) {
  BELAY_TRY(ValidateName("project", identity.project));
  BELAY_TRY(ValidateName("job", identity.job));
  if (identity.step.value() < 0 || identity.rank.value() < 0 || identity.rank.value() >= identity.world_size) {
    return Fail(Code::kInvalidArgument, "rank ", identity.rank, " of ", identity.world_size, " at step ",
                identity.step);
  }
  if (digests.size() != ChunkCount(plan.data_bytes)) {
    return Fail(Code::kInvalidArgument, digests.size(), " digests for ", plan.data_bytes, " bytes of data");
  }
  const std::string text = HeaderText(plan, identity, ToHex(std::as_bytes(std::span(digests))));
  if (kLengthBytes + text.size() > plan.header_bytes) {
    return Fail(Code::kInvalidArgument, "the header needs ", text.size(), " bytes; the plan left ", plan.header_bytes);
  }
  const std::uint64_t length = plan.header_bytes - kLengthBytes;
  std::string header;
  header.reserve(plan.header_bytes);
  for (unsigned shift = 0; shift < 64; shift += 8) header += static_cast<char>(length >> shift & 255);
  header += text;
  header.resize(plan.header_bytes, ' ');
  return header;
}

base::Result<std::uint64_t> ShardHeaderBytes(std::span<const std::byte> first_eight) {
  if (first_eight.size() < kLengthBytes) return Fail(Code::kCorrupt, "a shard of ", first_eight.size(), " bytes");
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i) length |= std::to_integer<std::uint64_t>(first_eight[i]) << (8 * i);
  if (length > kShardHeaderBytesMax) {
    return Fail(Code::kLimitExceeded, "a header of ", length, " bytes; the limit is ", kShardHeaderBytesMax);
  }
  if (length < 2) return Fail(Code::kCorrupt, "a header of ", length, " bytes");
  return kLengthBytes + length;
}

base::Result<ShardHeader> DecodeShardHeader(std::span<const std::byte> file_start) {
  BELAY_ASSIGN(const std::uint64_t header_bytes, ShardHeaderBytes(file_start));
  if (file_start.size() < header_bytes) {
    return Fail(Code::kCorrupt, "the file ends inside its header: ", file_start.size(), " of ", header_bytes, " bytes");
  }
  const std::string_view text(reinterpret_cast<const char*>(file_start.data()) + kLengthBytes,
                              header_bytes - kLengthBytes);
  if (text[0] != '{') return Fail(Code::kCorrupt, "the header does not begin with {");
  if (auto checked = CheckJson(text, 4); !checked) return base::Wrap(std::move(checked).error(), "header");
  const json object = json::parse(text);

  json metadata = json::object();
  ShardHeader header;
  header.plan.header_bytes = header_bytes;
  for (const auto& [name, value] : object.items()) {
    if (name == "__metadata__") {
      if (!value.is_object() || !std::all_of(value.begin(), value.end(), [](const json& v) { return v.is_string(); })) {
        return Fail(Code::kCorrupt, "the header's __metadata__ is not a map of strings");
      }
      metadata = value;
      continue;
    }
    BELAY_ASSIGN(ShardEntry entry, DecodeEntry(name, value));
    header.plan.entries.push_back(std::move(entry));
  }
  const bool ours = metadata.contains("belay.version");
  if (ours && metadata["belay.version"] != kVersion) {
    return Fail(Code::kFormatVersion, "a shard of version ", metadata["belay.version"].dump(), "; this build reads 1");
  }
  if (!ours && metadata.contains("DCP_SHARDING_INFO")) {
    return Fail(Code::kFormatVersion,
                "a piece of a sharded checkpoint that belay did not write; merge its files first");
  }

  std::sort(header.plan.entries.begin(), header.plan.entries.end(), InDataOrder);
  for (const ShardEntry& entry : header.plan.entries) {
    if (entry.data_offset != header.plan.data_bytes) {
      return Fail(Code::kCorrupt, "tensor ", JsonString(entry.name), " begins at ", entry.data_offset,
                  " of the data, but the one before it ends at ", header.plan.data_bytes);
    }
    header.plan.data_bytes += entry.bytes;
    if (header.plan.data_bytes > kTensorBytesMax) return Fail(Code::kLimitExceeded, "the data is too large");
  }
  if (ours) {
    BELAY_TRY(DecodeOurs(header, metadata));
    std::sort(header.plan.entries.begin(), header.plan.entries.end(), InDataOrder);  // now by the true dtypes
  }
  return header;
}

}  // namespace belay::checkpoint
