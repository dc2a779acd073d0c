#include "checkpoint/cli/salvage.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "checkpoint/format/strict_json.h"
#include "runtime/base/units.h"

namespace belay::checkpoint::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kHeaderAlignment = 4096;
constexpr std::size_t kObjectBytesMax = 64 << 10;  // an entry is a line; damage must not make us read on for ever

Json ParseOrDiscarded(std::string_view text) { return Json::parse(text, nullptr, false); }

// The end of the string that begins with the quote at `begin`, just behind its closing quote; npos if it has none.
std::size_t StringEnd(std::string_view text, std::size_t begin) {
  for (std::size_t i = begin + 1; i < text.size(); ++i) {
    if (text[i] == '\\')
      ++i;
    else if (text[i] == '"')
      return i + 1;
  }
  return std::string_view::npos;
}

// The string that stands before the colon at `colon`: the name of what follows.
std::optional<std::string> NameBefore(std::string_view text, std::size_t colon) {
  if (colon < 2 || text[colon] != ':' || text[colon - 1] != '"') return std::nullopt;
  std::size_t begin = colon - 1;
  const std::size_t first = colon - std::min<std::size_t>(colon, 8 * kNameBytesMax);
  while (begin > first) {
    --begin;
    if (text[begin] != '"') continue;
    std::size_t slashes = 0;
    while (slashes < begin && text[begin - 1 - slashes] == '\\') ++slashes;
    if (slashes % 2 != 0) continue;
    const Json name = ParseOrDiscarded(text.substr(begin, colon - begin));
    return name.is_string() ? std::optional(name.get<std::string>()) : std::nullopt;
  }
  return std::nullopt;
}

struct FlatObject {
  Json value;
  std::size_t begin = 0;  // of its brace
};
// Every object without objects inside that has this key and is JSON by itself.
std::vector<FlatObject> ObjectsWith(std::string_view text, const std::string& key) {
  std::vector<FlatObject> found;
  const std::string quoted = "\"" + key + "\"";
  for (std::size_t at = text.find(quoted); at != std::string_view::npos; at = text.find(quoted, at + 1)) {
    const std::size_t from = at - std::min(at, kObjectBytesMax);
    const std::size_t open = text.substr(from, at - from).rfind('{');
    const std::size_t close = text.substr(at, kObjectBytesMax).find('}');
    if (open == std::string_view::npos || close == std::string_view::npos) continue;
    const std::size_t begin = from + open;
    Json value = ParseOrDiscarded(text.substr(begin, at + close - begin + 1));
    if (value.is_object()) found.push_back({std::move(value), begin});
  }
  return found;
}

std::optional<std::vector<std::int64_t>> Numbers(const Json& value) {
  if (!value.is_array() || value.size() > kDimensionsMax) return std::nullopt;
  std::vector<std::int64_t> numbers;
  for (const Json& number : value) {
    if (!number.is_number_unsigned() || number.get<std::uint64_t>() > kTensorBytesMax) return std::nullopt;
    numbers.push_back(number.get<std::int64_t>());
  }
  return numbers;
}

// The decoder of whole headers judges one entry: in a header of its own, moved to where that one's data begins.
std::optional<ShardEntry> DecodeAlone(const std::string& name, const Json& value) {
  if (name == "__metadata__" || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
      !value["dtype"].is_string()) {
    return std::nullopt;
  }
  const auto shape = Numbers(value["shape"]), offsets = Numbers(value["data_offsets"]);
  if (!shape || !offsets || offsets->size() != 2 || (*offsets)[1] < (*offsets)[0]) return std::nullopt;
  const auto begin = static_cast<std::uint64_t>((*offsets)[0]), end = static_cast<std::uint64_t>((*offsets)[1]);
  const Json moved = {{"dtype", value["dtype"]}, {"shape", *shape}, {"data_offsets", {0, end - begin}}};
  const std::string text = Json(Json::object({{name, moved}})).dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string header;
  for (unsigned shift = 0; shift < 64; shift += 8) header += static_cast<char>(text.size() >> shift & 255);
  header += text;
  auto decoded = DecodeShardHeader(std::as_bytes(std::span(header)));
  if (!decoded || decoded->plan.entries.size() != 1) return std::nullopt;
  ShardEntry entry = std::move(decoded->plan.entries.front());
  entry.data_offset = begin;
  return entry;
}

// A value of __metadata__, which is a string.
std::string MetadataText(std::string_view text, const std::string& key) {
  const std::string quoted = "\"" + key + "\":\"";
  const std::size_t at = text.find(quoted);
  if (at == std::string_view::npos) return {};
  const std::size_t begin = at + quoted.size() - 1, end = StringEnd(text, begin);
  if (end == std::string_view::npos) return {};
  const Json value = ParseOrDiscarded(text.substr(begin, end - begin));
  return value.is_string() ? value.get<std::string>() : std::string();
}

// Where the pieces lie in their tensors, as far as those lists are whole. Types stay as stored.
void AddPlaces(std::vector<ShardEntry>& entries, std::string_view text) {
  const Json offsets = ParseOrDiscarded(MetadataText(text, "DCP_SHARDING_INFO"));
  const Json shapes = ParseOrDiscarded(MetadataText(text, "belay.global_shapes"));
  if (!offsets.is_object() || !shapes.is_object()) return;
  for (ShardEntry& entry : entries) {
    const auto place = offsets.find(entry.name), shape = shapes.find(entry.name);
    if (place == offsets.end() || shape == shapes.end() || !place->is_object() || !place->contains("saved_offsets")) {
      continue;
    }
    const auto saved = Numbers((*place)["saved_offsets"]), global = Numbers(*shape);
    if (!saved || !global || !ValidateExtent(entry.dtype, *global, {*saved, entry.box.lengths})) continue;
    entry.box.offsets = *saved;
    entry.global_shape = *global;
  }
}

std::optional<ShardIdentity> FindIdentity(std::string_view text) {
  const Json value = ParseOrDiscarded(MetadataText(text, "belay.identity"));
  if (!value.is_object()) return std::nullopt;
  const auto number = [&](const char* key) -> std::uint64_t {
    const auto at = value.find(key);
    return at != value.end() && at->is_number_unsigned() ? at->get<std::uint64_t>() : 0;
  };
  const auto word = [&](const char* key) {
    const auto at = value.find(key);
    return at != value.end() && at->is_string() ? at->get<std::string>() : std::string("?");
  };
  return ShardIdentity{word("project"),
                       word("job"),
                       base::Step(static_cast<std::int64_t>(number("step") & INT64_MAX)),
                       base::Generation(number("generation")),
                       base::Rank(static_cast<std::int32_t>(number("rank") & 0x7FFFFFFF)),
                       static_cast<std::int32_t>(number("world_size") & 0x7FFFFFFF)};
}

// Behind the brace that closes the first one, rounded up to where data may begin; 0 if none closes it.
std::uint64_t HeaderEnd(std::string_view text) {
  std::size_t depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') {
      i = StringEnd(text, i);
      if (i == std::string_view::npos) return 0;
      --i;
    } else if (text[i] == '{') {
      ++depth;
    } else if (text[i] == '}' && (depth == 0 || --depth == 0)) {
      return base::AlignUp(kLengthBytes + i + 1, kHeaderAlignment);
    }
  }
  return 0;
}

}  // namespace

SalvagedHeader SalvageShardHeader(std::span<const std::byte> file_start, std::uint64_t header_bytes_known) {
  SalvagedHeader out;
  if (file_start.size() <= kLengthBytes) return out;
  const std::string_view all(reinterpret_cast<const char*>(file_start.data()) + kLengthBytes,
                             file_start.size() - kLengthBytes);
  out.header_bytes = header_bytes_known;
  if (out.header_bytes == 0) {
    const auto said = ShardHeaderBytes(file_start);
    // A length that does not end where data may begin is damaged itself.
    out.header_bytes = said && *said % kHeaderAlignment == 0 && *said <= file_start.size() ? *said : HeaderEnd(all);
  }
  if (out.header_bytes == 0) return out;
  const std::string_view text =
      all.substr(0, std::min<std::uint64_t>(all.size(), out.header_bytes - std::min(out.header_bytes, kLengthBytes)));
  std::map<std::string, ShardEntry> by_name;
  for (const FlatObject& object : ObjectsWith(text, "data_offsets")) {
    const auto name = object.begin == 0 ? std::nullopt : NameBefore(text, object.begin - 1);
    if (!name) continue;
    if (auto entry = DecodeAlone(*name, object.value)) by_name.emplace(*name, std::move(*entry));
  }
  for (auto& [name, entry] : by_name) out.entries.push_back(std::move(entry));
  std::stable_sort(out.entries.begin(), out.entries.end(),
                   [](const ShardEntry& a, const ShardEntry& b) { return a.data_offset < b.data_offset; });
  AddPlaces(out.entries, text);
  if (auto digests = ParseDigests(MetadataText(text, "belay.digests"))) out.digests = std::move(*digests);
  out.identity = FindIdentity(text);
  return out;
}

std::optional<Manifest> SalvageManifest(std::string_view text) {
  if (!CheckJson(text, 8)) return std::nullopt;
  Json object = Json::parse(text);
  object.erase("digest");
  // In the one spelling that counts, with the digest that this would have.
  std::string mended = object.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
  const std::string digest = Sha256Hex(mended);
  mended.resize(mended.size() - 3);
  auto manifest = DecodeManifest(mended + ",\n \"digest\": \"" + digest + "\"\n}\n");
  return manifest ? std::optional(std::move(*manifest)) : std::nullopt;
}

std::vector<ManifestFile> SalvageManifestFiles(std::string_view text) {
  std::map<std::string, ManifestFile> by_name;
  for (const FlatObject& object : ObjectsWith(text, "header_sha256")) {
    const Json& value = object.value;
    const auto word = [&](const char* key) {
      return value.contains(key) && value[key].is_string() ? value[key].get<std::string>() : std::string();
    };
    const auto number = [&](const char* key) {
      return value.contains(key) && value[key].is_number_unsigned() ? value[key].get<std::uint64_t>() : 0;
    };
    ManifestFile file{word("name"),           number("bytes"),
                      word("kind"),           base::Rank(static_cast<std::int32_t>(number("rank") & 0x7FFFFFFF)),
                      number("header_bytes"), word("header_sha256"),
                      word("data_sha256")};
    const bool whole = ValidateName("file", file.name) && (file.kind == "shard" || file.kind == "records");
    if (whole) by_name.emplace(file.name, std::move(file));
  }
  std::vector<ManifestFile> files;
  for (auto& [name, file] : by_name) files.push_back(std::move(file));
  return files;
}

}  // namespace belay::checkpoint::cli
