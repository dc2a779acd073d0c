// The command line of one verb: options with a value, flags and positional words, and the help made of the same list.
//
// Long options only, "--name VALUE" or "--name=VALUE". An unknown one is refused with the nearest known name, a
// repeated one too: which of two values was meant is not ours to guess.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/result.h"

namespace belay::checkpoint::cli {

struct OptionSpec {
  std::string name;   // without dashes
  std::string value;  // "DIR": takes a value, so named in the help; empty: a flag
  std::string help;
  bool repeated = false;  // may be given several times
};

struct CommandSpec {
  std::string usage;    // "belay ckpt list [JOB]"
  std::string purpose;  // one or two sentences for the help
  std::vector<OptionSpec> options;
  std::size_t positional_min = 0, positional_max = 0;
  std::string examples;  // lines for the end of the help; may be empty
};

class Arguments {
 public:
  // `words` without the verb. kInvalidArgument says what is wrong and where help is.
  static base::Result<Arguments> Parse(const CommandSpec& spec, const std::vector<std::string>& words);

  bool Has(const std::string& option) const { return values_.contains(option); }
  std::optional<std::string> Get(const std::string& option) const;
  // Every value of one that may be given several times.
  std::vector<std::string> GetAll(const std::string& option) const;
  // A whole number from `low` to `high`; kInvalidArgument.
  base::Result<std::optional<std::int64_t>> GetNumber(const std::string& option, std::int64_t low,
                                                      std::int64_t high) const;
  // Bytes: a whole number, also with K, M, G or T behind it, each 1024 times the one before. At least `low`.
  base::Result<std::optional<std::uint64_t>> GetBytes(const std::string& option, std::uint64_t low) const;
  const std::vector<std::string>& positional() const { return positional_; }
  std::optional<std::string> Positional(std::size_t index) const;

 private:
  std::map<std::string, std::string> values_;                   // flags have an empty value
  std::map<std::string, std::vector<std::string>> all_values_;  // of those that may be repeated
  std::vector<std::string> positional_;
};

std::string HelpText(const CommandSpec& spec);
// The nearest of `known` to what was typed, if any is near enough to be meant.
std::optional<std::string> NearestName(const std::string& typed, const std::vector<std::string>& known);
base::Result<std::int64_t> ParseNumber(const std::string& what, const std::string& text, std::int64_t low,
                                       std::int64_t high);

}  // namespace belay::checkpoint::cli
