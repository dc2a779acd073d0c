#include "checkpoint/format/strict_json.h"

#include <nlohmann/json.hpp>
#include <unordered_set>
#include <vector>

namespace belay::checkpoint {

namespace {

using nlohmann::json;

// Sees every event of the parser, keeps only the keys of the objects that are open.
class Checker : public nlohmann::json_sax<json> {
 public:
  explicit Checker(std::size_t depth_max) : depth_max_(depth_max) {}
  const std::string& complaint() const { return complaint_; }

  bool null() override { return Value(); }
  bool boolean(bool) override { return Value(); }
  bool number_integer(number_integer_t) override { return Value(); }
  bool number_unsigned(number_unsigned_t) override { return Value(); }
  bool number_float(number_float_t, const string_t&) override { return Value(); }
  bool string(string_t&) override { return Value(); }
  bool binary(binary_t&) override { return Refuse("binary data"); }
  bool start_object(std::size_t) override {
    keys_.emplace_back();
    return Deeper();
  }
  bool end_object() override {
    keys_.pop_back();
    --depth_;
    return true;
  }
  bool key(string_t& key) override {
    return keys_.back().insert(key).second || Refuse("the key \"" + key.substr(0, 100) + "\" appears twice");
  }
  bool start_array(std::size_t) override {
    if (depth_ == 0) return Refuse("not an object");
    return Deeper();
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    return Refuse("not JSON at byte " + std::to_string(position));
  }

 private:
  bool Value() { return depth_ > 0 || Refuse("not an object"); }
  bool Deeper() { return ++depth_ <= depth_max_ || Refuse("nested too deep"); }
  bool Refuse(std::string why) {
    complaint_ = std::move(why);
    return false;
  }

  const std::size_t depth_max_;
  std::size_t depth_ = 0;
  std::vector<std::unordered_set<std::string>> keys_;
  std::string complaint_;
};

// Bytes of the character that a text which is not empty begins with; 0 if it begins with none. Follows RFC 3629: no
// overlong forms, no surrogates. Bjoern Hoehrmann's table would be faster; names are short.
std::size_t CharacterBytes(std::string_view text) {
  const auto byte = [&](std::size_t at) { return static_cast<unsigned char>(text[at]); };
  const unsigned char first = byte(0);
  std::size_t more = 0;
  unsigned char low = 0x80, high = 0xBF;  // what the second byte may be
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) {
    more = 1;
  } else if (first >= 0xE0 && first <= 0xEF) {
    more = 2;
    if (first == 0xE0) low = 0xA0;
    if (first == 0xED) high = 0x9F;
  } else if (first >= 0xF0 && first <= 0xF4) {
    more = 3;
    if (first == 0xF0) low = 0x90;
    if (first == 0xF4) high = 0x8F;
  } else {
    return 0;
  }
  if (more >= text.size()) return 0;
  if (byte(1) < low || byte(1) > high) return 0;
  for (std::size_t k = 2; k <= more; ++k) {
    if (byte(k) < 0x80 || byte(k) > 0xBF) return 0;
  }
  return more + 1;
}

}  // namespace

base::Status CheckJson(std::string_view text, std::size_t depth_max) {
  // The parser skips a byte order mark and then allows comments only if asked; we want neither.
  if (!text.empty() && static_cast<unsigned char>(text[0]) == 0xEF) {
    return base::Fail(base::Code::kCorrupt, "not JSON at byte 0");
  }
  Checker checker(depth_max);
  if (!json::sax_parse(text, &checker)) return base::Fail(base::Code::kCorrupt, checker.complaint());
  return {};
}

std::string JsonString(std::string_view text) {
  return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

bool IsUtf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t bytes = CharacterBytes(text.substr(i));
    if (bytes == 0) return false;
    i += bytes;
  }
  return true;
}

std::string ToUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t bytes = CharacterBytes(text);
    out += bytes == 0 ? std::string_view("\xEF\xBF\xBD") : text.substr(0, bytes);
    text.remove_prefix(bytes == 0 ? 1 : bytes);
  }
  return out;
}

}  // namespace belay::checkpoint
