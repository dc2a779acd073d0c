#include "launcher/cli/options.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::Fail;
using base::Str;

std::string Dashed(std::string_view name) { return Str(name.size() == 1 ? "-" : "--", name); }

int WordCount(const OptionSpec& spec) {
  if (spec.value.empty()) return 0;
  return 1 + static_cast<int>(std::ranges::count(spec.value, ' '));
}

const OptionSpec* Find(std::span<const OptionSpec> specs, std::string_view name) {
  const auto it = std::ranges::find_if(
      specs, [&](const OptionSpec& s) { return !name.empty() && (s.name == name || s.alias == name); });
  return it == specs.end() ? nullptr : &*it;
}

std::size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

std::string Hint(std::span<const OptionSpec> specs, std::string_view name) {
  if (name.size() > 64) return "";
  const OptionSpec* best = nullptr;
  std::size_t best_distance = name.size() <= 3 ? 2 : 4;
  for (const OptionSpec& spec : specs) {
    if (spec.name.size() == 1) continue;
    const bool prefix = name.size() >= 3 && spec.name.starts_with(name);
    const std::size_t distance = prefix ? 0 : EditDistance(name, spec.name);
    if (distance < best_distance) {
      best = &spec;
      best_distance = distance;
    }
  }
  return best != nullptr ? Str("; did you mean ", Dashed(best->name), "?") : "";
}

}  // namespace

std::optional<std::string> ParsedOptions::Get(std::string_view name) const {
  const auto it = values.find(name);
  if (it == values.end() || it->second.empty() || it->second.front().empty()) return std::nullopt;
  return it->second.front().front();
}

std::string ParsedOptions::Source(std::string_view name) const {
  const auto it = variables.find(name);
  return it == variables.end() ? Dashed(name) : it->second;
}

base::Result<ParsedOptions> ParseOptions(
    std::span<const OptionSpec> specs, std::span<const std::string> args, bool mixed,
    const std::function<std::optional<std::string>(const std::string&)>& environment) {
  ParsedOptions parsed;
  std::size_t i = 0;
  for (; i < args.size(); ++i) {
    const std::string& arg = args[i];
    if (arg == "--") {
      ++i;
      break;
    }
    if (arg.size() < 2 || arg[0] != '-') {
      if (!mixed) break;
      parsed.rest.push_back(arg);
      continue;
    }
    if (arg == "--help" || arg == "-h" || arg == "-help") {
      parsed.help = true;
      continue;
    }
    std::string_view name = std::string_view(arg).substr(arg.starts_with("--") ? 2 : 1);
    std::optional<std::string> attached;
    if (const std::size_t equals = name.find('='); equals != std::string_view::npos) {
      attached = std::string(name.substr(equals + 1));
      name = name.substr(0, equals);
    }
    const OptionSpec* spec = Find(specs, name);
    if (spec == nullptr && !attached && !arg.starts_with("--") && name.size() > 1) {  // -n4
      spec = Find(specs, name.substr(0, 1));
      if (spec != nullptr && WordCount(*spec) == 1 && spec->name.size() == 1) {
        attached = std::string(name.substr(1));
        // Only a number may hang on: -nq is a typing error, not the value "q".
        if (attached->find_first_not_of("0123456789") != std::string::npos) spec = nullptr;
      } else {
        spec = nullptr;
      }
    }
    if (spec == nullptr) {
      return Fail(Code::kInvalidArgument, "unknown option ", arg, Hint(specs, name),
                  mixed ? "" : " (options of the program go after its name)");
    }
    std::vector<std::string> words;
    const int count = WordCount(*spec);
    if (attached) {
      if (count == 0) return Fail(Code::kInvalidArgument, Dashed(spec->name), " takes no value");
      if (count > 1) return Fail(Code::kInvalidArgument, Dashed(spec->name), " takes two words: ", spec->value);
      words.push_back(std::move(*attached));
    }
    while (static_cast<int>(words.size()) < count) {
      if (i + 1 >= args.size() || args[i + 1] == "--") {
        return Fail(Code::kInvalidArgument, Dashed(spec->name), " needs ", spec->value);
      }
      words.push_back(args[++i]);
    }
    auto& mentions = parsed.values[std::string(spec->name)];
    if (!mentions.empty() && !spec->repeatable)
      return Fail(Code::kInvalidArgument, Dashed(spec->name), " is given twice");
    mentions.push_back(std::move(words));
  }
  for (; i < args.size(); ++i) parsed.rest.push_back(args[i]);
  if (environment) {
    for (const OptionSpec& spec : specs) {
      if (spec.environment.empty() || parsed.Has(spec.name)) continue;
      if (auto value = environment(std::string(spec.environment)); value && !value->empty()) {
        parsed.values[std::string(spec.name)].push_back({std::move(*value)});
        parsed.variables[std::string(spec.name)] = spec.environment;
      }
    }
  }
  return parsed;
}

std::string RenderOptions(std::span<const OptionSpec> specs) {
  std::string text;
  for (const OptionSpec& spec : specs) {
    std::string left = Str("  ", Dashed(spec.name));
    if (!spec.alias.empty()) left += Str(", ", Dashed(spec.alias));
    if (!spec.value.empty()) left += Str(" ", spec.value);
    constexpr std::size_t kColumn = 30;
    text += left;
    text += left.size() + 1 < kColumn ? std::string(kColumn - left.size(), ' ') : "\n" + std::string(kColumn, ' ');
    text += spec.help;
    if (!spec.environment.empty()) text += Str(" [", spec.environment, "]");
    text += "\n";
  }
  return text;
}

base::Result<std::int64_t> ParseInteger(std::string_view option, const std::string& text, std::int64_t least,
                                        std::int64_t most) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > most) {
    return Fail(Code::kInvalidArgument, option, " wants a whole number from ", least, " to ", most, ", not '", text,
                "'");
  }
  return value;
}

base::Result<double> ParseSeconds(std::string_view option, const std::string& text) {
  double factor = 1;
  std::string_view number = text;
  if (!number.empty()) {
    switch (number.back()) {
      case 's':
        number.remove_suffix(1);
        break;
      case 'm':
        factor = 60;
        number.remove_suffix(1);
        break;
      case 'h':
        factor = 3600;
        number.remove_suffix(1);
        break;
      default:
        break;
    }
  }
  double value = 0;
  const auto [end, error] =
      std::from_chars(number.data(), number.data() + number.size(), value, std::chars_format::fixed);
  constexpr double kMost = 366.0 * 86400;
  if (number.empty() || error != std::errc() || end != number.data() + number.size() || !std::isfinite(value) ||
      value < 0 || value * factor > kMost) {
    return Fail(Code::kInvalidArgument, option, " wants seconds like 90, 90s, 5m or 2h, not '", text, "'");
  }
  return value * factor;
}

}  // namespace belay::launcher
