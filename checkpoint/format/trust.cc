#include "checkpoint/format/trust.h"

#include <nlohmann/json.hpp>

#include "checkpoint/format/strict_json.h"

namespace belay::checkpoint {

using base::Code;
using base::Fail;

std::string_view TrustName(TrustState state) {
  switch (state) {
    case TrustState::kGood:
      return "good";
    case TrustState::kSuspect:
      return "suspect";
    case TrustState::kUnknown:
      break;
  }
  return "unknown";
}

std::optional<TrustState> ParseTrust(std::string_view name) {
  for (const TrustState state : {TrustState::kUnknown, TrustState::kGood, TrustState::kSuspect}) {
    if (name == TrustName(state)) return state;
  }
  return std::nullopt;
}

std::string EncodeTrust(const Trust& trust, std::string_view changed) {
  return base::Str("{\n \"format\": \"belay-trust\",\n \"version\": 1,\n \"state\": ",
                   JsonString(std::string(TrustName(trust.state))), ",\n \"failed_resumes\": ", trust.failed_resumes,
                   ",\n \"judged_by\": ", trust.judged_by, ",\n \"changed\": ", JsonString(std::string(changed)),
                   ",\n \"reason\": ", JsonString(trust.reason), "\n}\n");
}

base::Result<Trust> DecodeTrust(std::string_view text) {
  if (auto checked = CheckJson(text, 4); !checked) return base::Wrap(std::move(checked).error(), "trust mark");
  const auto json = nlohmann::json::parse(text);
  const auto word = [&](const char* key) {
    const auto at = json.find(key);
    return at != json.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  const auto number = [&](const char* key) {
    const auto at = json.find(key);
    return at != json.end() && at->is_number_unsigned() ? at->get<std::uint64_t>() : 0;
  };
  if (word("format") != "belay-trust") return Fail(Code::kCorrupt, "not a belay trust mark");
  if (number("version") != 1) return Fail(Code::kFormatVersion, "a trust mark of another version than 1");
  const auto state = ParseTrust(word("state"));
  if (!state) return Fail(Code::kCorrupt, "a trust mark without a state that is known");
  const std::uint64_t failed = number("failed_resumes");
  if (failed > UINT32_MAX) return Fail(Code::kCorrupt, "a trust mark counts ", failed, " failed resumes");
  return Trust{*state, static_cast<std::uint32_t>(failed), base::Generation(number("judged_by")), word("reason")};
}

Trust TrustFrom(const base::Result<std::string>& content) {
  const auto decoded = content ? DecodeTrust(*content) : base::Result<Trust>(tl::unexpected(content.error()));
  if (decoded) return *decoded;
  Trust unknown;
  unknown.reason = "its trust mark does not say how it fared: " + decoded.error().Text();
  return unknown;
}

}  // namespace belay::checkpoint
