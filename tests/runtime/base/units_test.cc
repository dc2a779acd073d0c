#include "runtime/base/units.h"

#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

TEST(HumanBytesTest, SpellsAsPeopleDo) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1024), "1.0 KiB");
  EXPECT_EQ(HumanBytes(kMiB - 1), "1.0 MiB");
  EXPECT_EQ(HumanBytes(4 * kMiB), "4.0 MiB");
  EXPECT_EQ(HumanBytes(kGiB + kGiB / 3), "1.3 GiB");
  EXPECT_EQ(HumanBytes(~0ULL), "16.0 EiB");
}

TEST(AlignUpTest, RoundsUpToTheNextMultiple) {
  static_assert(AlignUp(0, 4096) == 0);
  static_assert(AlignUp(1, 4096) == 4096);
  static_assert(AlignUp(4096, 4096) == 4096);
  EXPECT_EQ(AlignUp(4097, 4096), 8192U);
}

}  // namespace
}  // namespace belay::base
