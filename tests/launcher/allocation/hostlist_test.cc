#include "launcher/allocation/hostlist.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "launcher/allocation/allocation.h"
#include "runtime/base/rng.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;
using testing::ElementsAre;
using testing::HasSubstr;
using Names = std::vector<std::string>;

Names Expand(std::string_view text) {
  const auto names = ExpandHostlist("V", text);
  return names ? *names : Names{names.error().message};
}

TEST(HostlistTest, ExpandsWhatSlurmWrites) {
  EXPECT_THAT(Expand("login1"), ElementsAre("login1"));
  EXPECT_THAT(Expand("node[001-003,007]x"), ElementsAre("node001x", "node002x", "node003x", "node007x"));
  EXPECT_THAT(Expand("a,b[2,1],c"), ElementsAre("a", "b2", "b1", "c")) << "in order, unsorted";
  EXPECT_THAT(Expand("r[0-1]n[8-10].x"), ElementsAre("r0n8.x", "r0n9.x", "r0n10.x", "r1n8.x", "r1n9.x", "r1n10.x"));
  EXPECT_THAT(Expand("n[08-11]"), ElementsAre("n08", "n09", "n10", "n11"));
  EXPECT_THAT(Expand("n[8-11]"), ElementsAre("n8", "n9", "n10", "n11"));
  EXPECT_THAT(Expand("n[98-101]"), ElementsAre("n98", "n99", "n100", "n101"));
  EXPECT_THAT(Expand("n[1,1]"), ElementsAre("n1", "n1"));
  EXPECT_THAT(Expand("ip-10-0-231-[1,86]"), ElementsAre("ip-10-0-231-1", "ip-10-0-231-86"));
  EXPECT_THAT(Expand("[1-2]"), ElementsAre("1", "2"));
  EXPECT_EQ(Expand("n[1-10000]").size(), 10000U);
}

TEST(HostlistTest, ComplaintsNameTheVariableWhatWasFoundAndWhatIsRight) {
  EXPECT_THAT(Expand("a[1-2"), ElementsAre("V: a '[' without its ']' in 'a[1-2'"));
  EXPECT_THAT(Expand("a[2-1]"), ElementsAre("V: the range '2-1' runs backwards"));
  EXPECT_THAT(Expand("a[1-x]"), ElementsAre("V: '1-x' within '[...]' is no number or range like 001-128"));
  EXPECT_THAT(Expand("a[]"), ElementsAre(HasSubstr("'' within '[...]'")));
  EXPECT_THAT(Expand("a[[1]]"), ElementsAre(HasSubstr("'[1' within")));
  EXPECT_THAT(Expand("a[-1]"), ElementsAre(HasSubstr("no number or range")));
  EXPECT_THAT(Expand("a[1-2-3]"), ElementsAre(HasSubstr("no number or range")));
  EXPECT_THAT(Expand("a[1]]"), ElementsAre(HasSubstr("'a1]' is no host name")));
  EXPECT_THAT(Expand("a,,b"), ElementsAre("V: 'a,,b' has an empty entry"));
  EXPECT_THAT(Expand(""), ElementsAre(HasSubstr("empty entry")));
  EXPECT_THAT(Expand("bob@a"), ElementsAre(HasSubstr("names a user")));
  EXPECT_THAT(Expand("a\x1b[31m"), ElementsAre(testing::Not(HasSubstr("\x1b"))));
}

// Each would take gigabytes or minutes if it were expanded first and counted then.
TEST(HostlistTest, HostileListsAreRefusedAtOnce) {
  std::string brackets = "a";
  for (int i = 0; i < 40; ++i) brackets += "[0-9]";
  std::string ones = "a";
  for (int i = 0; i < 100'000; ++i) ones += "[1]";
  for (const std::string& text :
       {std::string("n[0-10000]"), std::string("n[0-999999999999999999]"), std::string("n[1-9999999999999999999]"),
        std::string("a,n[1-10000]"), std::string("r[0-100]n[0-100]"), brackets, ones,
        "n[1-10000]" + std::string(1'000'000, 'a'), "n[" + std::string(1'000'000, '1') + "]"}) {
    const Names names = Expand(text);
    ASSERT_EQ(names.size(), 1U) << text.substr(0, 50);
    EXPECT_THAT(names[0], testing::StartsWith("V: ")) << text.substr(0, 50);
    EXPECT_LT(names[0].size(), 300U);
  }
}

TEST(HostlistTest, CompressesAsSlurmDoes) {
  const auto compress = [](const Names& names) { return CompressHostlist(names); };
  EXPECT_EQ(compress({}), "");
  EXPECT_EQ(compress({"a"}), "a");
  EXPECT_EQ(compress({"n001", "n002", "n003", "n007"}), "n[001-003,007]");
  EXPECT_EQ(compress({"n9", "n10", "n11"}), "n[9-11]");
  EXPECT_EQ(compress({"n09", "n10", "n100"}), "n[09-10,100]");
  EXPECT_EQ(compress({"n1", "n01", "n001"}), "n[1,01,001]");
  EXPECT_EQ(compress({"n2", "n1"}), "n[2,1]") << "ranks go by the order";
  EXPECT_EQ(compress({"n1", "n2", "login", "n3"}), "n[1-2],login,n3");
  EXPECT_EQ(compress({"job-worker-0.job.ns.svc", "job-worker-1.job.ns.svc"}), "job-worker-[0-1].job.ns.svc");
  EXPECT_EQ(compress({"r1n1", "r1n2", "r2n1", "r2n2"}), "r1n[1-2],r2n[1-2]");
  EXPECT_EQ(compress({"a", "a"}), "a,a");
}

// Property: expanding the compressed names gives the names, whatever they are.
TEST(HostlistTest, ExpandingTheCompressedListGivesTheNames) {
  constexpr std::string_view kDigits[] = {"0",
                                          "1",
                                          "2",
                                          "9",
                                          "10",
                                          "01",
                                          "02",
                                          "09",
                                          "099",
                                          "100",
                                          "8",
                                          "11",
                                          "999999999999999999",
                                          "0000000000000000000",
                                          "99999999999999999999"};
  constexpr std::string_view kWords[] = {"n", "a", "-", ".x", "rack", "", "_", "."};
  for (std::uint64_t seed = 1; seed <= 20'000; ++seed) {
    SCOPED_TRACE(Str("seed ", seed));
    base::Rng rng(seed);
    Names names;
    for (std::uint64_t count = 1 + rng.Below(12); count > 0; --count) {
      std::string name = rng.Below(2) == 0 ? "n" : "";
      for (std::uint64_t part = 1 + rng.Below(3); part > 0; --part) {
        name += kDigits[rng.Below(std::size(kDigits))];
        name += kWords[rng.Below(std::size(kWords))];
      }
      // Rows of neighbours, which is what lists are made of.
      for (std::uint64_t i = 0, row = rng.Below(4); i < row; ++i) names.push_back(Str(name, rng.Below(4) + 8));
      names.push_back(name);
    }
    const std::string text = CompressHostlist(names);
    const auto again = ExpandHostlist("V", text);
    ASSERT_TRUE(again) << text << ": " << again.error().message;
    ASSERT_EQ(*again, names) << text;
  }
}

// Property: a list that expands means the same after it was compressed, and is then in one form.
TEST(HostlistTest, GarbageIsRefusedOrMeansTheSameOnceCompressed) {
  std::size_t accepted = 0;
  for (std::uint64_t seed = 1; seed <= 20'000; ++seed) {
    SCOPED_TRACE(Str("seed ", seed));
    base::Rng rng(seed);
    std::string text;
    constexpr std::string_view kPieces[] = {"n", "[1-3]", "[01,7]",  ",",  "[", "]",
                                            "-", "9",     "[08-11]", ".x", "b", "\xff"};
    for (std::uint64_t i = 1 + rng.Below(8); i > 0; --i) text += kPieces[rng.Below(std::size(kPieces))];
    const auto names = ExpandHostlist("V", text);
    if (!names) {
      EXPECT_THAT(names.error().message, testing::StartsWith("V: "));
      continue;
    }
    ++accepted;
    const std::string compressed = CompressHostlist(*names);
    EXPECT_EQ(Expand(compressed), *names) << text;
    EXPECT_EQ(CompressHostlist(Expand(compressed)), compressed) << text;
  }
  EXPECT_GT(accepted, 1000U);
}

TEST(HostlistTest, ExpandsCounts) {
  EXPECT_EQ(ExpandCounts("V", "2(x3),1", 1, 9), (std::vector<std::int32_t>{2, 2, 2, 1}));
  EXPECT_EQ(ExpandCounts("V", "8", 1, 9), (std::vector<std::int32_t>{8}));
  EXPECT_EQ(ExpandCounts("V", "8(x10000)", 1, 9)->size(), 10000U);
  for (const char* text : {"", "x", "2(x3", "2(x)", "2(x0)", "2(3)", "2,", "0", "10", "-1", "2(x3)1", "8(x10001)",
                           "1,8(x10000)", "8(x99999999999999999999)"}) {
    const auto counts = ExpandCounts("V", text, 1, 9);
    ASSERT_FALSE(counts) << text;
    EXPECT_THAT(counts.error().message, testing::StartsWith("V"));
  }
}

}  // namespace
}  // namespace belay::launcher
