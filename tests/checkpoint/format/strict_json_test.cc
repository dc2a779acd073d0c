#include "checkpoint/format/strict_json.h"

#include <gtest/gtest.h>

namespace belay::checkpoint {
namespace {

TEST(StrictJsonTest, AcceptsAnObject) {
  for (const char* text : {"{}", " {\"a\":1}  ", R"({"a":{"a":[1,-2.5e3,null,true,"x"]}})"}) {
    EXPECT_TRUE(CheckJson(text, 3)) << text;
  }
}

TEST(StrictJsonTest, RefusesWhatOthersTolerate) {
  for (const char* text : {"", "[]", "1", "\"x\"", "null", "{\"a\":1,\"a\":1}", "{\"a\":{\"b\":1,\"b\":2}}", "{} {}",
                           "{}x", "{\"a\":1,}", "{\"a\":NaN}", "{'a':1}", "{/*x*/}", "{\"a\":\"\xFF\"}",
                           "{\"a\":1e999}", "\xEF\xBB\xBF{}", "{\"a\":01}", "{\"a\":\"\n\"}"}) {
    const auto checked = CheckJson(text, 8);
    ASSERT_FALSE(checked) << text;
    EXPECT_EQ(checked.error().code, base::Code::kCorrupt);
    EXPECT_FALSE(checked.error().message.empty());
  }
}

TEST(StrictJsonTest, SameKeyInDifferentObjectsIsFine) { EXPECT_TRUE(CheckJson(R"({"a":{"k":1},"b":{"k":1}})", 2)); }

TEST(StrictJsonTest, EscapedSpellingsOfOneKeyAreOneKey) { EXPECT_FALSE(CheckJson(R"({"a":1,"\u0061":2})", 2)); }

TEST(StrictJsonTest, LimitsDepthWithoutRecursion) {
  EXPECT_TRUE(CheckJson(R"({"a":[[1]]})", 3));
  EXPECT_FALSE(CheckJson(R"({"a":[[1]]})", 2));
  EXPECT_FALSE(CheckJson("{\"a\":" + std::string(1'000'000, '['), 64));
}

TEST(StrictJsonTest, KnowsUtf8) {
  for (const char* good : {"", "abc", "\xC3\xA4", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xED\x9F\xBF"})
    EXPECT_TRUE(IsUtf8(good));
  for (const char* bad : {"\x80", "\xC3", "\xC0\x80", "\xC3(", "\xE0\x80\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80",
                          "\xF5\x80\x80\x80", "\xE2\x82", "a\xFF"}) {
    EXPECT_FALSE(IsUtf8(bad));
    EXPECT_TRUE(IsUtf8(ToUtf8(bad)));
  }
}

TEST(StrictJsonTest, ReplacesWhatIsNotUtf8AndNothingElse) {
  EXPECT_EQ(ToUtf8(""), "");
  EXPECT_EQ(ToUtf8("a\xC3\xA4\xF0\x9F\x98\x80z"), "a\xC3\xA4\xF0\x9F\x98\x80z");
  EXPECT_EQ(ToUtf8("\xFF"), "\xEF\xBF\xBD");
  EXPECT_EQ(ToUtf8("a\xC3(b\xE2\x82"), "a\xEF\xBF\xBD(b\xEF\xBF\xBD\xEF\xBF\xBD");
}

}  // namespace
}  // namespace belay::checkpoint
