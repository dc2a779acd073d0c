// The command line parser of every belay command: a table of options in, values or a clear complaint out. Pure.
//
// Understands --name value, --name=value, -n value, -n4 and, because mpirun's users write them, long names behind one
// dash (-np 4, -mca K V). An option that is not repeatable is refused the second time. An option's environment variable
// gives its value when the command line does not.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace belay::launcher {

struct OptionSpec {
  std::string_view name;   // canonical, without dashes; one letter means a short option
  std::string_view alias;  // another name, or empty
  std::string_view value;  // what the help calls the value; empty: a switch. "K V" takes two words
  std::string_view help;
  std::string_view environment;  // variable that gives the default, or empty
  bool repeatable = false;
};

struct ParsedOptions {
  // By canonical name: one entry a mention, each with its words (none for a switch).
  std::map<std::string, std::vector<std::vector<std::string>>, std::less<>> values;
  std::map<std::string, std::string, std::less<>> variables;  // where a value came from the environment: its variable
  std::vector<std::string> rest;                              // from the first word that is no option, or after "--"
  bool help = false;

  bool Has(std::string_view name) const { return values.contains(name); }
  // The value of an option that takes one word.
  std::optional<std::string> Get(std::string_view name) const;
  // What a complaint about the option's value names: "--grace", or the variable that gave it.
  std::string Source(std::string_view name) const;
};

// kInvalidArgument with a hint. `mixed`: options may also follow other words (all commands but run and explain, where
// the program's own options follow). `environment` looks a variable up.
base::Result<ParsedOptions> ParseOptions(
    std::span<const OptionSpec> specs, std::span<const std::string> args, bool mixed,
    const std::function<std::optional<std::string>(const std::string&)>& environment);

// The options' part of a command's help.
std::string RenderOptions(std::span<const OptionSpec> specs);

// A whole number in [least, most]; kInvalidArgument names the option.
base::Result<std::int64_t> ParseInteger(std::string_view option, const std::string& text, std::int64_t least,
                                        std::int64_t most);
// Seconds: "90", "1.5", "90s", "5m", "2h".
base::Result<double> ParseSeconds(std::string_view option, const std::string& text);

}  // namespace belay::launcher
