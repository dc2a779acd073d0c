// A target with a bug on purpose: it believes that no valid layout ever changes its fingerprint.
#include "checkpoint/format/layout.h"
#include "tests/fuzz/fuzz_target.h"

BELAY_FUZZ_TARGET(data) {
  using namespace belay::checkpoint;
  static std::string first;
  const auto layout = DecodeLayout(data);
  if (!layout) return;
  const std::string fingerprint = LayoutFingerprint(*layout);
  if (first.empty()) first = fingerprint;
  FUZZ_CHECK(fingerprint == first);
}
