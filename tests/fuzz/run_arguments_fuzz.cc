// What people write for `belay run` and the other commands: command lines, variables that stand in for options, host
// lists and host files. The first byte chooses.
//
//   a   `belay run`; j the commands that look at jobs. Words are separated by zero bytes, as in /proc/PID/cmdline. One
//       that begins with byte 1 is a variable, NAME=VALUE, and one that begins with byte 2 the content of every file.
//   h   a host list; f a host file
#include <algorithm>
#include <cctype>
#include <iterator>

#include "launcher/cli/commands.h"
#include "launcher/cli/run_arguments.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace belay;
using namespace belay::launcher;

constexpr std::int64_t kRanksMax = 65536;
constexpr double kSecondsMax = 366.0 * 86400;

std::vector<std::string> Split(std::string_view text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == separator)
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

struct Typed {
  std::vector<std::string> words;
  std::map<std::string, std::string> environment;
  std::string file;
};

Typed ReadWords(std::string_view text) {
  Typed typed;
  for (const std::string& word : Split(text, '\0')) {
    const std::size_t equals = word.find('=');
    if (word.starts_with('\1') && equals != std::string::npos)
      typed.environment[word.substr(1, equals - 1)] = word.substr(equals + 1);
    else if (word.starts_with('\2'))
      typed.file = word.substr(1);
    else
      typed.words.push_back(word);
  }
  return typed;
}

RunHost HostOf(const Typed& typed) {
  RunHost host;
  host.environment = typed.environment;
  host.host_name = "node7.example";
  host.working_directory = "/w";
  host.resolve_data_dir = [](const std::optional<std::string>& flag) -> base::Result<std::string> {
    return flag.value_or("/data");
  };
  host.read_file = [&typed](const std::string& path) -> base::Result<std::string> {
    FUZZ_CHECK(path.starts_with('/'));
    return typed.file;
  };
  return host;
}

bool IsName(const std::string& name) {
  return !name.empty() && name.size() <= 100 && name[0] != '.' && std::ranges::all_of(name, [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-';
  });
}

void CheckRun(std::string_view text) {
  const Typed typed = ReadWords(text);
  const RunHost host = HostOf(typed);
  const auto arguments = ParseRunArguments(typed.words, host);
  if (!arguments) {
    FUZZ_CHECK(!arguments.error().message.empty());
    return;
  }
  if (arguments->help) return;
  const RunOptions& options = arguments->options;
  FUZZ_CHECK(options.ranks >= 1 && options.ranks <= kRanksMax);
  FUZZ_CHECK(IsName(options.job) && IsName(options.project));
  FUZZ_CHECK(options.working_directory.starts_with('/'));
  FUZZ_CHECK(options.socket.empty() || options.socket.starts_with('/'));
  FUZZ_CHECK(options.log_dir.empty() || options.log_dir.starts_with('/'));
  FUZZ_CHECK(options.max_restarts >= 0);
  for (const double seconds :
       {options.grace_seconds, options.launch_timeout_seconds, options.timeout_seconds.value_or(0)}) {
    FUZZ_CHECK(seconds >= 0 && seconds <= kSecondsMax);
  }
  for (const auto& [name, value] : options.exports) {
    FUZZ_CHECK(!name.empty() && name.find('=') == std::string::npos && name != "RANK" && name != "BELAY_SOCKET");
  }
  // The program is the end of what was typed, word for word.
  const std::vector<std::string>& program = options.program;
  FUZZ_CHECK(!program.empty() && !program[0].empty() && program.size() <= typed.words.size());
  const auto begins = typed.words.end() - static_cast<std::ptrdiff_t>(program.size());
  FUZZ_CHECK(std::equal(program.begin(), program.end(), begins));
  // "--" before it makes no difference.
  if (begins != typed.words.begin() && *std::prev(begins) == "--") return;
  std::vector<std::string> marked(typed.words.begin(), begins);
  marked.emplace_back("--");
  marked.insert(marked.end(), program.begin(), program.end());
  const auto again = ParseRunArguments(marked, host);
  FUZZ_CHECK(again && again->options.program == program && again->options.ranks == options.ranks);
}

void CheckJobCommand(std::string_view text) {
  const Typed typed = ReadWords(text);
  const std::vector<OptionSpec> specs = JobOptions();
  const auto parsed = ParseOptions(specs, typed.words, true, [&](const std::string& name) {
    const auto found = typed.environment.find(name);
    return found == typed.environment.end() ? std::nullopt : std::optional(found->second);
  });
  const bool wants_json = WantsJson(typed.words);
  if (!parsed) {
    FUZZ_CHECK(!parsed.error().message.empty());
    return;
  }
  FUZZ_CHECK(!parsed->Has("json") || wants_json);
  // No word gets lost: what is no option's is in `rest`, in order.
  std::size_t at = 0;
  for (const std::string& word : parsed->rest) {
    while (at < typed.words.size() && typed.words[at] != word) ++at;
    FUZZ_CHECK(at++ < typed.words.size());
  }
  for (const auto& [name, mentions] : parsed->values) {
    const auto spec = std::ranges::find(specs, name, &OptionSpec::name);
    FUZZ_CHECK(spec != specs.end() && (spec->repeatable || mentions.size() == 1));
  }
}

// What a number of slots means, read another way than the parser does.
std::optional<std::int64_t> Count(const std::string& digits) {
  std::int64_t value = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9') return std::nullopt;
    value = std::min(value * 10 + (c - '0'), kRanksMax + 1);
  }
  return value >= 1 && value <= kRanksMax ? std::optional(value) : std::nullopt;
}

bool IsHere(const std::string& name) {
  const std::string_view names[] = {"localhost", "127.0.0.1", "::1", "node7", "node7.example"};
  return std::ranges::find(names, name) != std::end(names);
}

void Compare(const base::Result<std::int32_t>& slots, const std::optional<std::int64_t>& wanted) {
  FUZZ_CHECK(slots.has_value() == wanted.has_value());
  if (slots) FUZZ_CHECK(*slots == std::min(*wanted, kRanksMax));
}

void CheckHostList(const std::string& text) {
  std::optional<std::int64_t> wanted = 0;
  for (const std::string& entry : Split(text, ',')) {
    const bool has_count = std::ranges::count(entry, ':') == 1;
    const std::string name = has_count ? entry.substr(0, entry.find(':')) : entry;
    const auto count = has_count ? Count(entry.substr(entry.find(':') + 1)) : 1;
    wanted = wanted && count && IsHere(name) ? std::optional(*wanted + *count) : std::nullopt;
  }
  Compare(SlotsFromHostList(text, "node7.example"), wanted);
}

void CheckHostfile(const std::string& text) {
  std::optional<std::int64_t> wanted = 0;
  for (const std::string& line : Split(text, '\n')) {
    std::vector<std::string> words;
    bool in_word = false;
    for (const char c : line.substr(0, line.find('#'))) {
      const bool is_blank = c == ' ' || (c >= '\t' && c <= '\r');
      if (!is_blank && !in_word) words.emplace_back();
      if (!is_blank) words.back() += c;
      in_word = !is_blank;
    }
    if (words.empty()) continue;
    std::optional<std::int64_t> slots, most;
    bool is_good = IsHere(words[0]);
    for (std::size_t i = 1; i < words.size(); ++i) {
      const std::size_t equals = words[i].find('=');
      const std::string key = words[i].substr(0, equals);
      const auto count = equals == std::string::npos ? std::nullopt : Count(words[i].substr(equals + 1));
      auto& known = key == "slots" ? slots : most;
      is_good &= (key == "slots" || key == "max_slots" || key == "max-slots") && count && !known;
      known = count;
    }
    is_good &= !most || slots.value_or(1) <= *most;
    wanted = wanted && is_good ? std::optional(*wanted + slots.value_or(1)) : std::nullopt;
  }
  if (wanted == 0) wanted.reset();
  Compare(SlotsFromHostfile(text, "node7.example"), wanted);
}

}  // namespace

BELAY_FUZZ_TARGET(data) {
  if (data.empty()) return;
  const std::string text(data.substr(1));
  switch (data.front()) {
    case 'a':
      return CheckRun(text);
    case 'j':
      return CheckJobCommand(text);
    case 'h':
      return CheckHostList(text);
    case 'f':
      return CheckHostfile(text);
    default:
      return;
  }
}
