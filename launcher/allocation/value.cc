#include "launcher/allocation/value.h"

#include <algorithm>
#include <charconv>

#include "launcher/allocation/allocation.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::Fail;

constexpr std::size_t kShownMax = 80;

// What the C locale calls white space.
bool IsBlank(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

}  // namespace

std::string Printable(std::string_view text) {
  std::string shown(text);
  std::ranges::replace_if(
      shown, [](char c) { return c < ' ' || c > '~'; }, '?');
  return shown;
}

std::string Quoted(std::string_view text) {
  return "'" + Printable(text.substr(0, kShownMax)) + (text.size() > kShownMax ? "...'" : "'");
}

std::optional<std::string> Variable(const std::map<std::string, std::string>& environment, const std::string& name) {
  const auto found = environment.find(name);
  if (found == environment.end() || std::ranges::all_of(found->second, IsBlank)) return std::nullopt;
  return found->second;
}

base::Result<std::int64_t> WholeNumber(std::string_view where, std::string_view text, std::int64_t least,
                                       std::int64_t most) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    return Fail(Code::kInvalidArgument, where, " wants a whole number from ", least, " to ", most, ", not ",
                Quoted(text));
  }
  return value;
}

base::Result<std::optional<std::int64_t>> NumberVariable(const std::map<std::string, std::string>& environment,
                                                         const std::string& name, std::int64_t least,
                                                         std::int64_t most) {
  const auto text = Variable(environment, name);
  if (!text) return std::optional<std::int64_t>();
  BELAY_ASSIGN(const std::int64_t value, WholeNumber(name, *text, least, most));
  return std::optional(value);
}

std::vector<std::string_view> Words(std::string_view text) {
  std::vector<std::string_view> words;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    while (end < text.size() && !IsBlank(text[end])) ++end;
    if (end > at) words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return words;
}

std::vector<std::string_view> Parts(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(separator, at), text.size());
    parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

base::Status ForEachLine(std::string_view text,
                         const std::function<base::Status(std::size_t number, std::string_view line)>& take) {
  std::size_t number = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = text.substr(at, end - at);
    BELAY_TRY(take(++number, line.substr(0, line.find('#'))));
    at = end + 1;
  }
  return {};
}

base::Status NoHostName(std::string_view where, std::string_view name) {
  if (const std::size_t at = name.find('@'); at != std::string_view::npos) {
    return Fail(Code::kInvalidArgument, where, ": ", Quoted(name),
                " names a user; belay starts ranks as the user who runs it: write ", Quoted(name.substr(at + 1)));
  }
  return Fail(Code::kInvalidArgument, where, ": ", Quoted(name),
              " is no host name (letters, digits, '.', '-', '_', at most ", kHostNameSizeMax, " of them)");
}

}  // namespace belay::launcher
