#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "checkpoint/format/manifest.h"
#include "checkpoint/format/strict_json.h"

namespace belay::checkpoint {

using base::Code;
using base::Fail;

namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string ToBase64(std::string_view bytes) {
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = std::min<std::size_t>(3, bytes.size() - i);
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = group << 8 | (k < count ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) text += k <= count ? kAlphabet[group >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

// Strict: whole groups, padding only at the end, unused bits zero (so that there is one text for each value).
std::optional<std::string> FromBase64(std::string_view text) {
  static constexpr std::array<signed char, 256> kValues = [] {
    std::array<signed char, 256> values{};
    values.fill(-1);
    for (std::size_t i = 0; i < kAlphabet.size(); ++i) {
      values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<signed char>(i);
    }
    return values;
  }();
  if (text.size() % 4 != 0) return std::nullopt;
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    std::size_t padding = 0;
    if (i + 4 == text.size()) padding = text[i + 3] != '=' ? 0 : text[i + 2] != '=' ? 1 : 2;
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      const int value = k < 4 - padding ? kValues[static_cast<unsigned char>(text[i + k])] : 0;
      if (value < 0) return std::nullopt;
      group = group << 6 | static_cast<std::uint32_t>(value);
    }
    if ((group & ((1U << (8 * padding)) - 1)) != 0) return std::nullopt;
    for (std::size_t k = 0; k < 3 - padding; ++k) bytes += static_cast<char>(group >> (16 - 8 * k) & 255);
  }
  return bytes;
}

}  // namespace

std::string EncodeRecords(const Records& records) {
  std::string text = "{\n \"format\": \"belay-records\",\n \"version\": 1,\n \"records\": {";
  const char* separator = "\n  ";
  for (const auto& [name, bytes] : records) {
    text += separator + JsonString(name) + ": \"" + ToBase64(bytes) + "\"";
    separator = ",\n  ";
  }
  return text + "\n }\n}\n";
}

base::Result<Records> DecodeRecords(std::string_view text) {
  if (text.size() > kRecordsBytesMax) {
    return Fail(Code::kLimitExceeded, "a records file of ", text.size(), " bytes; the limit is ", kRecordsBytesMax);
  }
  if (auto checked = CheckJson(text, 4); !checked) return base::Wrap(std::move(checked).error(), "records");
  const auto json = nlohmann::json::parse(text);
  const auto format = json.find("format"), version = json.find("version"), list = json.find("records");
  if (format == json.end() || *format != "belay-records") return Fail(Code::kCorrupt, "not a belay records file");
  if (version == json.end() || !version->is_number_unsigned()) return Fail(Code::kCorrupt, "records: no version");
  if (*version != 1U) return Fail(Code::kFormatVersion, "records of version ", version->dump(), "; this build reads 1");
  if (list == json.end() || !list->is_object()) return Fail(Code::kCorrupt, "records: no list of records");
  Records records;
  for (const auto& [name, value] : list->items()) {
    if (name.empty() || name.size() > kNameBytesMax)
      return Fail(Code::kCorrupt, "records: a name of ", name.size(), " bytes");
    auto bytes = value.is_string() ? FromBase64(value.get_ref<const std::string&>()) : std::nullopt;
    if (!bytes) return Fail(Code::kCorrupt, "records: ", JsonString(name), " is not base64");
    records.emplace(name, std::move(*bytes));
  }
  return records;
}

std::string RecordsFileName(base::Rank rank) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "rank-%05d.state.json", rank.value());
  return text.data();
}

}  // namespace belay::checkpoint
