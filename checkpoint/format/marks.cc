#include "checkpoint/format/marks.h"

#include <nlohmann/json.hpp>

#include "checkpoint/format/strict_json.h"

namespace belay::checkpoint {

using base::Code;
using base::Fail;

std::string EncodeQuarantine(const Quarantine& quarantine) {
  return base::Str("{\n \"format\": \"belay-quarantine\",\n \"version\": 1,\n \"found\": ",
                   JsonString(quarantine.found), ",\n \"reason\": ", JsonString(quarantine.reason), "\n}\n");
}

base::Result<Quarantine> DecodeQuarantine(std::string_view text) {
  if (auto checked = CheckJson(text, 4); !checked) return base::Wrap(std::move(checked).error(), "quarantine mark");
  const auto json = nlohmann::json::parse(text);
  const auto word = [&](const char* key) {
    const auto at = json.find(key);
    return at != json.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  if (word("format") != "belay-quarantine") return Fail(Code::kCorrupt, "not a belay quarantine mark");
  const auto version = json.find("version");
  if (version == json.end() || *version != 1U) {
    return Fail(Code::kFormatVersion, "a quarantine mark of another version than 1");
  }
  Quarantine out{word("reason"), word("found")};
  if (out.reason.empty()) return Fail(Code::kCorrupt, "a quarantine mark without a reason");
  return out;
}

Quarantine QuarantineFrom(const base::Result<std::string>& content) {
  const auto decoded = content ? DecodeQuarantine(*content) : base::Result<Quarantine>(tl::unexpected(content.error()));
  if (decoded) return *decoded;
  return {"marked, but the mark does not say why: " + decoded.error().Text(), ""};
}

}  // namespace belay::checkpoint
