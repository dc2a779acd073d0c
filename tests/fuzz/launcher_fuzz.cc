// What the launcher reads and did not write: command lines, host lists, the file of another launcher, messages on its
// socket. The first byte chooses the decoder.
#include "launcher/cli/run_arguments.h"
#include "launcher/protocol/messages.h"
#include "launcher/run/run_directory.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace belay;
using namespace belay::launcher;

RunHost Host() {
  RunHost host;
  host.host_name = "node7";
  host.working_directory = "/w";
  host.resolve_data_dir = [](const std::optional<std::string>&) -> base::Result<std::string> { return "/data"; };
  host.read_file = [](const std::string&) -> base::Result<std::string> { return "node7 slots=2\n"; };
  return host;
}

// Words are separated by zero bytes, as in /proc/PID/cmdline.
void ReadCommandLine(std::string_view text) {
  std::vector<std::string> words(1);
  for (const char c : text) {
    if (c == '\0') {
      words.emplace_back();
    } else {
      words.back() += c;
    }
  }
  const auto arguments = ParseRunArguments(words, Host());
  if (!arguments) {
    FUZZ_CHECK(!arguments.error().message.empty());
  } else if (!arguments->help) {
    FUZZ_CHECK(arguments->options.ranks > 0);
    FUZZ_CHECK(!arguments->options.program.empty());
    FUZZ_CHECK(arguments->options.job.find('/') == std::string::npos);
  }
}

}  // namespace

BELAY_FUZZ_TARGET(data) {
  if (data.empty()) return;
  const std::string text(data.substr(1));
  switch (data.front()) {
    case 'a':
      return ReadCommandLine(text);
    case 'h':
      if (const auto slots = SlotsFromHostList(text, "node7")) FUZZ_CHECK(*slots > 0);
      return;
    case 'f':
      if (const auto slots = SlotsFromHostfile(text, "node7")) FUZZ_CHECK(*slots > 0);
      return;
    case 'r':
      if (const auto record = DecodeLauncherRecord(text)) {
        FUZZ_CHECK(DecodeLauncherRecord(EncodeLauncherRecord(*record)).has_value());
      }
      return;
    case 't':
      if (const auto message = DecodeToLauncher(text)) FUZZ_CHECK(message->body_case() != 0);
      return;
    default:
      if (const auto message = DecodeFromLauncher(text)) FUZZ_CHECK(message->body_case() != 0);
  }
}
