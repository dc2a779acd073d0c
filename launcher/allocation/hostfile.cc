#include "launcher/allocation/hostfile.h"

#include <optional>
#include <span>

#include "launcher/allocation/value.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::Fail;
using base::Str;

struct NameAndCount {
  std::string_view name;
  std::optional<std::string_view> count;
};
// "a:4". More than one colon make an IPv6 address, which has no count.
NameAndCount SplitAtColon(std::string_view entry) {
  const std::size_t colon = entry.find(':');
  if (colon == std::string_view::npos || entry.rfind(':') != colon) return {entry, std::nullopt};
  return {entry.substr(0, colon), entry.substr(colon + 1)};
}

base::Result<std::int32_t> Slots(std::string_view where, std::string_view name, std::string_view key,
                                 std::string_view text, const HostRules& rules) {
  BELAY_ASSIGN(const std::int64_t count,
               WholeNumber(Str(where, ": ", key, " of ", Quoted(name)), text, 1, rules.slots_max));
  return static_cast<std::int32_t>(count);
}

base::Result<HostEntry> ParseLine(std::string_view where, const std::vector<std::string_view>& words,
                                  const HostRules& rules) {
  NameAndCount host = {words[0], std::nullopt};
  if (rules.colon_counts) host = SplitAtColon(words[0]);
  if (!IsHostName(host.name)) return tl::unexpected(NoHostName(where, host.name).error());
  std::optional<std::string_view> most;
  for (const std::string_view word : std::span(words).subspan(1)) {
    const std::size_t equals = word.find('=');
    const std::string_view key = word.substr(0, equals);
    const bool is_most = key == "max_slots" || key == "max-slots";
    if (equals == std::string_view::npos || !(is_most || key == "slots")) {
      return Fail(Code::kInvalidArgument, where, " says ", Quoted(word), "; known are slots=N and max_slots=N");
    }
    std::optional<std::string_view>& said = is_most ? most : host.count;
    if (said) return Fail(Code::kInvalidArgument, where, " says ", key, " twice for ", host.name);
    said = word.substr(equals + 1);
  }
  HostEntry entry = {std::string(host.name), rules.slots_default, 0};
  if (host.count) {
    BELAY_ASSIGN(entry.slots, Slots(where, host.name, "slots", *host.count, rules));
  }
  if (most) {
    BELAY_ASSIGN(const std::int32_t limit, Slots(where, host.name, "max_slots", *most, rules));
    if (entry.slots > limit) {
      return Fail(Code::kInvalidArgument, where, " gives ", host.name, " ", entry.slots, " slots and at most ", limit);
    }
  }
  return entry;
}

}  // namespace

base::Result<std::vector<HostEntry>> ParseHostList(std::string_view list, const HostRules& rules) {
  if (list.empty()) return Fail(Code::kInvalidArgument, rules.where, " names no host");
  std::vector<HostEntry> entries;
  for (const std::string_view entry : Parts(list, ',')) {
    if (entry.empty()) return Fail(Code::kInvalidArgument, rules.where, " ", Quoted(list), " has an empty entry");
    const auto [name, count] = SplitAtColon(entry);
    if (!IsHostName(name)) return tl::unexpected(NoHostName(rules.where, name).error());
    std::int32_t slots = rules.slots_default;
    if (count) {
      BELAY_ASSIGN(slots, Slots(rules.where, name, "slots", *count, rules));
    }
    entries.push_back({std::string(name), slots, 0});
  }
  return entries;
}

base::Result<std::vector<HostEntry>> ParseHostfile(std::string_view text, const HostRules& rules) {
  std::vector<HostEntry> entries;
  BELAY_TRY(ForEachLine(text, [&](std::size_t number, std::string_view line) -> base::Status {
    const std::vector<std::string_view> words = Words(line);
    if (words.empty()) return {};
    BELAY_ASSIGN(HostEntry entry, ParseLine(Str(rules.where, ", line ", number), words, rules));
    entry.line = number;
    entries.push_back(std::move(entry));
    return {};
  }));
  if (entries.empty()) return Fail(Code::kInvalidArgument, rules.where, " names no host");
  return entries;
}

base::Result<std::vector<Node>> NodesFromLines(std::string_view where, std::string_view text) {
  NodeCollector nodes;
  BELAY_TRY(ForEachLine(text, [&](std::size_t number, std::string_view line) -> base::Status {
    const std::vector<std::string_view> words = Words(line);
    if (words.empty()) return {};
    const std::string at = Str(where, ", line ", number);
    if (words.size() > 1) return Fail(Code::kInvalidArgument, at, ": ", Quoted(line), " is not one host name");
    return nodes.Add(at, words[0], 1);
  }));
  return std::move(nodes).Take(where);
}

base::Result<std::vector<Node>> NodesOf(const std::vector<HostEntry>& entries, std::string_view where) {
  NodeCollector nodes;
  for (const HostEntry& entry : entries) {
    BELAY_TRY(
        nodes.Add(entry.line == 0 ? std::string(where) : Str(where, ", line ", entry.line), entry.name, entry.slots));
  }
  return std::move(nodes).Take(where);
}

}  // namespace belay::launcher
