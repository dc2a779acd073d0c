#include "checkpoint/format/trust.h"

#include <gtest/gtest.h>

namespace belay::checkpoint {
namespace {

TEST(TrustTest, AMarkComesBackAsItWas) {
  for (const TrustState state : {TrustState::kUnknown, TrustState::kGood, TrustState::kSuspect}) {
    const Trust trust{state, 2, base::Generation(7), "rank 1 was killed by \"SIGSEGV\"\n"};
    const auto again = DecodeTrust(EncodeTrust(trust, "2026-01-02T03:04:05.678Z"));
    ASSERT_TRUE(again) << again.error().Text();
    EXPECT_EQ(*again, trust);
    EXPECT_EQ(ParseTrust(TrustName(state)), state);
  }
  EXPECT_FALSE(ParseTrust("Good"));
}

TEST(TrustTest, WhatIsNoMarkIsRefused) {
  const auto code = [](std::string_view text) {
    const auto decoded = DecodeTrust(text);
    return decoded ? base::Code{0} : decoded.error().code;
  };
  EXPECT_EQ(code(""), base::Code::kCorrupt);
  EXPECT_EQ(code("[]"), base::Code::kCorrupt);
  EXPECT_EQ(code("{}"), base::Code::kCorrupt);
  EXPECT_EQ(code(R"({"format": "belay-trust", "version": 1})"), base::Code::kCorrupt);
  EXPECT_EQ(code(R"({"format": "belay-trust", "version": 1, "state": "fine"})"), base::Code::kCorrupt);
  EXPECT_EQ(code(R"({"format": "belay-trust", "version": 1, "state": "good", "failed_resumes": 4294967296})"),
            base::Code::kCorrupt);
  EXPECT_EQ(code(R"({"format": "belay-trust", "version": 2, "state": "good"})"), base::Code::kFormatVersion);
  EXPECT_EQ(code(R"({"format": "belay-trust", "version": 1, "state": "good", "later": {}})"), base::Code{0});
}

TEST(TrustTest, AMarkThatCannotBeReadSaysNothingAgainstTheCheckpoint) {
  EXPECT_EQ(TrustFrom(std::string("nonsense")).state, TrustState::kUnknown);
  const base::Result<std::string> unread = base::Fail(base::Code::kIo, "cannot read it");
  EXPECT_EQ(TrustFrom(unread).state, TrustState::kUnknown);
  EXPECT_NE(TrustFrom(unread).reason.find("cannot read it"), std::string::npos);
}

}  // namespace
}  // namespace belay::checkpoint
