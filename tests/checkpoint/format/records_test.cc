// Records are declared in checkpoint/format/manifest.h.
#include <gtest/gtest.h>

#include "checkpoint/format/manifest.h"
#include "runtime/base/rng.h"
#include "tests/checkpoint/format/random_layout.h"

namespace belay::checkpoint {
namespace {

using base::Code;

TEST(RecordsTest, EncodesAsDocumented) {
  EXPECT_EQ(EncodeRecords({{"rng", "Man"}, {"x", "Ma"}, {"y", "M"}, {"z", ""}}),
            "{\n \"format\": \"belay-records\",\n \"version\": 1,\n \"records\": {\n  \"rng\": \"TWFu\",\n"
            "  \"x\": \"TWE=\",\n  \"y\": \"TQ==\",\n  \"z\": \"\"\n }\n}\n");
  EXPECT_EQ(RecordsFileName(base::Rank(3)), "rank-00003.state.json");
}

TEST(RecordsTest, ComeBack) {
  EXPECT_EQ(DecodeRecords(EncodeRecords({})).value(), Records{});
  for (const std::uint64_t seed : test::Seeds(100)) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    base::Rng rng(seed);
    Records records;
    for (std::uint64_t n = rng.Below(5); n > 0; --n) {
      std::string bytes(rng.Below(70), '\0');
      for (char& c : bytes) c = static_cast<char>(rng.Next());
      records["na\"me\\" + std::to_string(n)] = bytes;
    }
    const auto decoded = DecodeRecords(EncodeRecords(records));
    ASSERT_TRUE(decoded) << decoded.error().Text();
    ASSERT_EQ(*decoded, records);
  }
}

TEST(RecordsTest, RefusesWhatIsDamaged) {
  const std::string good = EncodeRecords({{"a", "hello"}});
  const auto code = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    const auto decoded = DecodeRecords(text);
    return decoded ? Code::kInternal : decoded.error().code;
  };
  EXPECT_EQ(code("aGVsbG8=", "aGVsbG8"), Code::kCorrupt);
  EXPECT_EQ(code("aGVsbG8=", "aGVsbG9="), Code::kCorrupt);  // unused bits set
  EXPECT_EQ(code("aGVsbG8=", "aGVs=G8="), Code::kCorrupt);
  EXPECT_EQ(code("aGVsbG8=", "aG\u00e4sbG8="), Code::kCorrupt);
  EXPECT_EQ(code("\"a\":", "\"a\": \"\", \"a\":"), Code::kCorrupt);
  EXPECT_EQ(code("belay-records", "belay-manifest"), Code::kCorrupt);
  EXPECT_EQ(code("\"version\": 1", "\"version\": 2"), Code::kFormatVersion);
  EXPECT_EQ(code("\"version\": 1", "\"version\": -1"), Code::kCorrupt);
  EXPECT_FALSE(DecodeRecords(good.substr(0, good.size() - 3)));
  EXPECT_FALSE(DecodeRecords(""));
  EXPECT_FALSE(DecodeRecords("[]"));
}

TEST(RecordsTest, IgnoresUnknownFields) {
  EXPECT_TRUE(DecodeRecords(R"({"format":"belay-records","version":1,"records":{},"later":[1,2]})"));
}

}  // namespace
}  // namespace belay::checkpoint
