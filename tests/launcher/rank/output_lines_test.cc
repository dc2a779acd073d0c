#include "launcher/rank/output_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "runtime/base/rng.h"

namespace belay::launcher {
namespace {

using testing::ElementsAre;

TEST(LineCutterTest, GivesWholeLinesHoweverTheBytesArrive) {
  std::string text;
  base::Rng rng(7);
  for (int i = 0; i < 500; ++i) text += std::string(rng.Below(200), 'x') + "\n";
  for (std::uint64_t seed = 1; seed <= 50; ++seed) {
    base::Rng pieces(seed);
    LineCutter cutter;
    std::string out;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = std::min<std::size_t>(1 + pieces.Below(300), text.size() - at);
      const std::string whole = cutter.Feed(std::string_view(text).substr(at, size));
      EXPECT_TRUE(whole.empty() || whole.ends_with('\n'));
      out += whole;
      at += size;
    }
    ASSERT_EQ(out + cutter.Finish(), text) << "seed " << seed;
  }
}

TEST(LineCutterTest, EndsTheLastLineAndOnlyOnce) {
  LineCutter cutter;
  EXPECT_EQ(cutter.Feed("a\nb"), "a\n");
  EXPECT_EQ(cutter.Finish(), "b\n");
  EXPECT_EQ(cutter.Finish(), "");
}

TEST(LineCutterTest, CutsALineWithoutEndInsteadOfKeepingItAll) {
  LineCutter cutter;
  std::string out;
  for (int i = 0; i < 40; ++i) out += cutter.Feed(std::string(64 * 1024, 'y'));
  EXPECT_EQ(out.size(), 2 * (kLineBytesMax + 1));
}

TEST(LastLinesTest, KeepsTheLastAsATerminalWouldShowThem) {
  LastLines last(2);
  last.Feed("one\ntwo\n");
  last.Feed("10%\r100%\n");
  EXPECT_THAT(last.Get(), ElementsAre("two", "100%"));
  last.Feed(std::string(1000, 'z') + "\n");
  EXPECT_EQ(last.Get().back().size(), 403U);
}

}  // namespace
}  // namespace belay::launcher
