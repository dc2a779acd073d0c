#include "checkpoint/cli/arguments.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cxxopts.hpp>
#include <numeric>
#include <sstream>

#include "runtime/base/units.h"

namespace belay::checkpoint::cli {
namespace {

using base::Code;
using base::Fail;
using base::Result;

cxxopts::Options MakeOptions(const CommandSpec& spec) {
  cxxopts::Options options(spec.usage);
  for (const OptionSpec& option : spec.options) {
    if (option.value.empty()) {
      options.add_options()(option.name, option.help);
    } else {
      options.add_options()(option.name, option.help, cxxopts::value<std::string>(), option.value);
    }
  }
  return options;
}

std::string HelpHint(const CommandSpec& spec) {
  // "belay ckpt list": the usage's words in small letters; what is to be filled in comes after them.
  std::istringstream usage(spec.usage);
  std::string verb, word;
  while (usage >> word && std::islower(static_cast<unsigned char>(word.front())) != 0) verb += word + " ";
  return base::Str("; see `", verb, "--help`");
}

// cxxopts names an option in its message only; we want it bare. "--data-dri=x" -> "data-dri".
std::string BareName(std::string word) {
  word.erase(0, word.find_first_not_of('-'));
  return word.substr(0, word.find('='));
}

}  // namespace

Result<Arguments> Arguments::Parse(const CommandSpec& spec, const std::vector<std::string>& words) {
  std::vector<std::string> known;
  for (const OptionSpec& option : spec.options) known.push_back(option.name);
  for (const std::string& word : words) {
    if (word == "--") break;
    if (!word.starts_with("-") || word == "-") continue;
    const std::string name = BareName(word);
    const bool long_form = word.starts_with("--");
    if (long_form && std::find(known.begin(), known.end(), name) != known.end()) continue;
    const auto nearest = NearestName(name, known);
    return Fail(Code::kInvalidArgument, "unknown option ", word.substr(0, word.find('=')),
                nearest ? base::Str(": did you mean --", *nearest, "?") : std::string(), HelpHint(spec));
  }
  std::vector<const char*> argv = {"belay"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  Arguments out;
  try {
    auto options = MakeOptions(spec);
    const cxxopts::ParseResult result = options.parse(static_cast<int>(argv.size()), argv.data());
    for (const OptionSpec& option : spec.options) {
      const std::size_t count = result.count(option.name);
      if (count == 0) continue;
      if (count > 1 && !option.repeated) {
        return Fail(Code::kInvalidArgument, "--", option.name, " is given ", count, " times; give it once");
      }
      out.values_[option.name] = option.value.empty() ? std::string() : result[option.name].as<std::string>();
    }
    for (const auto& word : result.arguments()) out.all_values_[word.key()].push_back(word.value());
    out.positional_ = result.unmatched();
  } catch (const std::exception& error) {  // cxxopts throws; nothing of it goes further
    return Fail(Code::kInvalidArgument, error.what(), HelpHint(spec));
  }
  if (out.Has("help")) return out;  // whatever else is missing
  if (out.positional_.size() < spec.positional_min) {
    return Fail(Code::kInvalidArgument, "something is missing: ", spec.usage, HelpHint(spec));
  }
  if (out.positional_.size() > spec.positional_max) {
    return Fail(Code::kInvalidArgument, "one word too many: ", out.positional_[spec.positional_max], HelpHint(spec));
  }
  return out;
}

std::optional<std::string> Arguments::Get(const std::string& option) const {
  const auto found = values_.find(option);
  if (found == values_.end()) return std::nullopt;
  return found->second;
}

std::vector<std::string> Arguments::GetAll(const std::string& option) const {
  const auto found = all_values_.find(option);
  return found == all_values_.end() ? std::vector<std::string>() : found->second;
}

Result<std::optional<std::int64_t>> Arguments::GetNumber(const std::string& option, std::int64_t low,
                                                         std::int64_t high) const {
  const auto text = Get(option);
  if (!text) return std::optional<std::int64_t>();
  BELAY_ASSIGN(const std::int64_t number, ParseNumber("--" + option, *text, low, high));
  return std::optional<std::int64_t>(number);
}

Result<std::optional<std::uint64_t>> Arguments::GetBytes(const std::string& option, std::uint64_t low) const {
  const auto text = Get(option);
  if (!text) return std::optional<std::uint64_t>();
  std::string digits = *text;
  constexpr std::string_view kUnits = "KMGT";
  const std::size_t unit = digits.empty() ? std::string_view::npos : kUnits.find(digits.back());
  const unsigned shift = unit == std::string_view::npos ? 0 : 10 * (static_cast<unsigned>(unit) + 1);
  if (shift != 0) digits.pop_back();
  const auto number = ParseNumber("--" + option, digits, 0, INT64_MAX >> shift);
  if (!number || static_cast<std::uint64_t>(*number) << shift < low) {
    return Fail(Code::kInvalidArgument, "--", option, " wants bytes like ", base::kMiB, ", 512M or 4G, at least ", low,
                ", not ", *text);
  }
  return std::optional<std::uint64_t>(static_cast<std::uint64_t>(*number) << shift);
}

std::optional<std::string> Arguments::Positional(std::size_t index) const {
  if (index >= positional_.size()) return std::nullopt;
  return positional_[index];
}

std::string HelpText(const CommandSpec& spec) {
  std::string text = base::Str("Usage: ", spec.usage, "\n\n", spec.purpose, "\n\nOptions:\n");
  std::size_t width = 0;
  const auto left = [](const OptionSpec& option) {
    return base::Str("  --", option.name, option.value.empty() ? "" : " ", option.value);
  };
  for (const OptionSpec& option : spec.options) width = std::max(width, left(option).size());
  for (const OptionSpec& option : spec.options) {
    std::string line = left(option);
    line.resize(width + 2, ' ');
    text += line + option.help + "\n";
  }
  if (!spec.examples.empty()) text += "\nExamples:\n" + spec.examples;
  return text;
}

std::optional<std::string> NearestName(const std::string& typed, const std::vector<std::string>& known) {
  std::optional<std::string> best;
  std::size_t best_distance = std::max<std::size_t>(2, typed.size() / 3) + 1;
  for (const std::string& name : known) {
    // Levenshtein distance, one row at a time.
    std::vector<std::size_t> row(name.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 0; i < typed.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i + 1;
      for (std::size_t j = 0; j < name.size(); ++j) {
        const std::size_t replaced = diagonal + (typed[i] == name[j] ? 0 : 1);
        diagonal = row[j + 1];
        row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
      }
    }
    if (row.back() < best_distance) {
      best_distance = row.back();
      best = name;
    }
  }
  return best;
}

Result<std::int64_t> ParseNumber(const std::string& what, const std::string& text, std::int64_t low,
                                 std::int64_t high) {
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < low || number > high) {
    return Fail(Code::kInvalidArgument, what, " must be a whole number from ", low, " to ", high, ", not ", text);
  }
  return number;
}

}  // namespace belay::checkpoint::cli
