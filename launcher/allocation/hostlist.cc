#include "launcher/allocation/hostlist.h"

#include <algorithm>
#include <optional>

#include "launcher/allocation/allocation.h"
#include "launcher/allocation/value.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::Fail;
using Names = std::vector<std::string>;

constexpr std::size_t kDigitsMax = 18;  // fit into 64 bits

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

std::string Padded(std::int64_t value, std::size_t width) {
  std::string digits = std::to_string(value);
  if (digits.size() < width) digits.insert(0, width - digits.size(), '0');
  return digits;
}

tl::unexpected<base::Error> TooMany(std::string_view where, std::string_view what) {
  return Fail(Code::kInvalidArgument, where, ": ", Quoted(what), " makes more than ", kNodesMax,
              " hosts, which is as many as belay takes");
}

// "001-003,007": the words that stand for the bracket.
base::Result<Names> ExpandBracket(std::string_view where, std::string_view text) {
  Names words;
  for (const std::string_view range : Parts(text, ',')) {
    const std::size_t dash = range.find('-');
    const std::string_view first = range.substr(0, dash);
    const std::string_view last = dash == std::string_view::npos ? first : range.substr(dash + 1);
    const auto is_number = [](std::string_view digits) {
      return !digits.empty() && digits.size() <= kDigitsMax && std::ranges::all_of(digits, IsDigit);
    };
    if (!is_number(first) || !is_number(last)) {
      return Fail(Code::kInvalidArgument, where, ": ", Quoted(range),
                  " within '[...]' is no number or range like 001-128");
    }
    BELAY_ASSIGN(const std::int64_t low, WholeNumber(where, first, 0, INT64_MAX));
    BELAY_ASSIGN(const std::int64_t high, WholeNumber(where, last, 0, INT64_MAX));
    if (low > high) return Fail(Code::kInvalidArgument, where, ": the range ", Quoted(range), " runs backwards");
    if (high - low >= static_cast<std::int64_t>(kNodesMax - words.size())) return TooMany(where, text);
    for (std::int64_t value = low; value <= high; ++value) words.push_back(Padded(value, first.size()));
  }
  return words;
}

// One name with its brackets, up to a comma outside them. `room`: how many names it may still make.
base::Result<Names> ExpandOne(std::string_view where, std::string_view text, std::size_t room) {
  Names names = {""};
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t open = std::min(text.find('[', at), text.size());
    // Before anything grows: neither a long word behind many names nor brackets without end may take memory.
    if (names[0].size() + (open - at) > kHostNameSizeMax) return tl::unexpected(NoHostName(where, text).error());
    for (std::string& name : names) name += text.substr(at, open - at);
    if (open == text.size()) break;
    const std::size_t close = text.find(']', open);
    if (close == std::string_view::npos) {
      return Fail(Code::kInvalidArgument, where, ": a '[' without its ']' in ", Quoted(text));
    }
    BELAY_ASSIGN(const Names words, ExpandBracket(where, text.substr(open + 1, close - open - 1)));
    if (names.size() * words.size() > room) return TooMany(where, text);
    Names longer;
    longer.reserve(names.size() * words.size());
    for (const std::string& name : names) {
      for (const std::string& word : words) longer.push_back(name + word);
    }
    names = std::move(longer);
    at = close + 1;
  }
  if (names.size() > room) return TooMany(where, text);
  for (const std::string& name : names) {
    if (!IsHostName(name)) return tl::unexpected(NoHostName(where, name).error());
  }
  return names;
}

// A run of digits of a name that may vary within a bracket.
struct DigitRun {
  std::size_t begin = 0, size = 0;
};
std::vector<DigitRun> DigitRuns(std::string_view name) {
  std::vector<DigitRun> runs;
  for (std::size_t at = 0; at < name.size();) {
    std::size_t end = at;
    while (end < name.size() && IsDigit(name[end])) ++end;
    if (end > at && end - at <= kDigitsMax) runs.push_back({at, end - at});
    at = std::max(end, at + 1);
  }
  return runs;
}

// The bracket that a group of names shares: everything but one run of digits.
struct Shape {
  std::string before, after;
  bool operator==(const Shape&) const = default;
};
Shape ShapeOf(std::string_view name, const DigitRun& run) {
  return {std::string(name.substr(0, run.begin)), std::string(name.substr(run.begin + run.size))};
}

// The shape that both names have: they differ in one run of digits, or are the same.
std::optional<Shape> SharedShape(std::string_view one, std::string_view other) {
  const std::vector<DigitRun> runs = DigitRuns(one), others = DigitRuns(other);
  if (runs.size() != others.size()) return std::nullopt;
  for (std::size_t i = runs.size(); i-- > 0;) {
    Shape shape = ShapeOf(one, runs[i]);
    if (shape == ShapeOf(other, others[i])) return shape;
  }
  return std::nullopt;
}

// The digits of `name` where it has this shape.
std::optional<std::string_view> DigitsIn(std::string_view name, const Shape& shape) {
  if (name.size() <= shape.before.size() + shape.after.size() || !name.starts_with(shape.before) ||
      !name.ends_with(shape.after)) {
    return std::nullopt;
  }
  const std::string_view digits =
      name.substr(shape.before.size(), name.size() - shape.before.size() - shape.after.size());
  if (digits.size() > kDigitsMax || !std::ranges::all_of(digits, IsDigit)) return std::nullopt;
  return digits;
}

// "001-003,007" for the words of a bracket.
std::string CompressWords(std::span<const std::string_view> words) {
  std::string text;
  for (std::size_t at = 0; at < words.size();) {
    std::int64_t value = std::stoll(std::string(words[at]));
    std::size_t end = at + 1;
    while (end < words.size() && words[end] == Padded(value + 1, words[at].size())) ++value, ++end;
    if (!text.empty()) text += ',';
    text += words[at];
    if (end - at > 1) (text += '-') += words[end - 1];
    at = end;
  }
  return text;
}

}  // namespace

base::Result<std::vector<std::string>> ExpandHostlist(std::string_view where, std::string_view text) {
  Names names;
  for (std::size_t at = 0; at <= text.size();) {
    std::size_t end = at;
    for (bool inside = false; end < text.size() && (inside || text[end] != ','); ++end) {
      if (text[end] == '[') inside = true;
      if (text[end] == ']') inside = false;
    }
    const std::string_view entry = text.substr(at, end - at);
    if (entry.empty()) return Fail(Code::kInvalidArgument, where, ": ", Quoted(text), " has an empty entry");
    BELAY_ASSIGN(const Names more, ExpandOne(where, entry, kNodesMax - names.size()));
    names.insert(names.end(), more.begin(), more.end());
    at = end + 1;
  }
  return names;
}

std::string CompressHostlist(std::span<const std::string> names) {
  std::string text;
  for (std::size_t at = 0; at < names.size();) {
    if (!text.empty()) text += ',';
    std::size_t end = at + 1;
    const auto shape = end < names.size() ? SharedShape(names[at], names[end]) : std::nullopt;
    if (!shape) {
      text += names[at++];
      continue;
    }
    std::vector<std::string_view> words = {*DigitsIn(names[at], *shape)};
    for (; end < names.size(); ++end) {
      const auto digits = DigitsIn(names[end], *shape);
      if (!digits) break;
      words.push_back(*digits);
    }
    ((((text += shape->before) += '[') += CompressWords(words)) += ']') += shape->after;
    at = end;
  }
  return text;
}

base::Result<std::vector<std::int32_t>> ExpandCounts(std::string_view where, std::string_view text, std::int32_t least,
                                                     std::int32_t most) {
  std::vector<std::int32_t> counts;
  for (const std::string_view part : Parts(text, ',')) {
    const std::size_t open = part.find("(x");
    std::int64_t times = 1;
    if (open != std::string_view::npos) {
      if (!part.ends_with(')')) {
        return Fail(Code::kInvalidArgument, where, ": ", Quoted(part), " is no count like 2 or 2(x3)");
      }
      BELAY_ASSIGN(times, WholeNumber(where, part.substr(open + 2, part.size() - open - 3), 1, kNodesMax));
    }
    BELAY_ASSIGN(const std::int64_t count, WholeNumber(where, part.substr(0, open), least, most));
    if (counts.size() + times > kNodesMax) {
      return Fail(Code::kInvalidArgument, where, ": counts for more than ", kNodesMax, " hosts");
    }
    counts.insert(counts.end(), times, static_cast<std::int32_t>(count));
  }
  return counts;
}

}  // namespace belay::launcher
