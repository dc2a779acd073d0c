// The words of `belay ckpt` and `belay daemon`: for every verb alike, options with values, flags and positional words.
// Words are separated by zero bytes, as in /proc/PID/cmdline.
#include <algorithm>

#include "checkpoint/cli/arguments.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using belay::checkpoint::cli::Arguments;
using belay::checkpoint::cli::CommandSpec;

const CommandSpec kSpec{"belay ckpt fuzz JOB [STEP]",
                        "Everything that a verb may have.",
                        {{"data-dir", "DIR", "a value"},
                         {"threads", "N", "a number"},
                         {"rate", "BYTES", "bytes"},
                         {"json", "", "a flag"},
                         {"help", "", "print this"}},
                        1,
                        2,
                        ""};

}  // namespace

BELAY_FUZZ_TARGET(data) {
  std::vector<std::string> words(1);
  for (const char c : data) {
    if (c == '\0')
      words.emplace_back();
    else
      words.back() += c;
  }
  const auto arguments = Arguments::Parse(kSpec, words);
  if (!arguments) {
    FUZZ_CHECK(!arguments.error().message.empty());
    return;
  }
  if (!arguments->Has("help")) {
    FUZZ_CHECK(arguments->positional().size() >= kSpec.positional_min);
    FUZZ_CHECK(arguments->positional().size() <= kSpec.positional_max);
    FUZZ_CHECK(arguments->Positional(0).has_value());
  }
  if (const auto threads = arguments->GetNumber("threads", 1, 64); threads && *threads) {
    FUZZ_CHECK(**threads >= 1 && **threads <= 64);
  }
  if (const auto rate = arguments->GetBytes("rate", 4096); rate && *rate) FUZZ_CHECK(**rate >= 4096);
  // Every value was given, behind its option's name or after an equals sign.
  for (const auto& option : kSpec.options) {
    const auto value = option.value.empty() ? std::nullopt : arguments->Get(option.name);
    if (!value) continue;
    FUZZ_CHECK(std::ranges::any_of(
        words, [&](const std::string& word) { return word == *value || word == "--" + option.name + "=" + *value; }));
  }
  // Every word that was given is somewhere: none is dropped without a word.
  for (const std::string& word : arguments->positional()) {
    FUZZ_CHECK(std::find(words.begin(), words.end(), word) != words.end());
  }
}
