// What the launcher reads and did not write: the file of another launcher, messages on its socket. The first byte
// chooses the decoder.
#include "launcher/protocol/messages.h"
#include "launcher/run/run_directory.h"
#include "tests/fuzz/fuzz_target.h"

using namespace belay::launcher;

BELAY_FUZZ_TARGET(data) {
  if (data.empty()) return;
  const std::string text(data.substr(1));
  switch (data.front()) {
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
