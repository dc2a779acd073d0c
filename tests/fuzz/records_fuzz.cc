#include "checkpoint/format/manifest.h"
#include "tests/fuzz/fuzz_target.h"

BELAY_FUZZ_TARGET(data) {
  using namespace belay::checkpoint;
  const auto records = DecodeRecords(data);
  if (!records) return;
  const auto again = DecodeRecords(EncodeRecords(*records));
  FUZZ_CHECK(again.has_value());
  FUZZ_CHECK(*again == *records);
}
