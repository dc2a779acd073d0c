#include "checkpoint/format/layout.h"
#include "tests/fuzz/fuzz_target.h"

// Only the canonical text is accepted, so it comes back byte for byte.
BELAY_FUZZ_TARGET(data) {
  using namespace belay::checkpoint;
  const auto layout = DecodeLayout(data);
  if (!layout) return;
  FUZZ_CHECK(ValidateLayout(*layout).has_value());
  FUZZ_CHECK(EncodeLayout(*layout) == data);
}
