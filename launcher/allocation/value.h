// Reading the values that batch systems write: numbers, words, lines, and how a complaint shows what it found.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/result.h"

namespace belay::launcher {

// For people and logs: what cannot be printed becomes '?', so that nothing found reaches a terminal as a command to it.
std::string Printable(std::string_view text);
// What was found, for a complaint: printable, in quotes, cut after 80 bytes.
std::string Quoted(std::string_view text);

// The variable, if it is set to more than blanks. Sites export empty ones.
std::optional<std::string> Variable(const std::map<std::string, std::string>& environment, const std::string& name);

// A whole number in [least, most], written in digits alone; kInvalidArgument begins with `where`.
base::Result<std::int64_t> WholeNumber(std::string_view where, std::string_view text, std::int64_t least,
                                       std::int64_t most);
// The same of a variable; no value if it is not set.
base::Result<std::optional<std::int64_t>> NumberVariable(const std::map<std::string, std::string>& environment,
                                                         const std::string& name, std::int64_t least,
                                                         std::int64_t most);

// Words between blanks; views into `text`.
std::vector<std::string_view> Words(std::string_view text);
// Parts between separators, empty ones too: "a,,b" has three.
std::vector<std::string_view> Parts(std::string_view text, char separator);

// Calls `take` with each line and its number, from 1; without what follows a '#'. A '\r' at the end counts as a blank.
base::Status ForEachLine(std::string_view text,
                         const std::function<base::Status(std::size_t number, std::string_view line)>& take);

// The complaint about a word that should be a host's name.
base::Status NoHostName(std::string_view where, std::string_view name);

}  // namespace belay::launcher
