#include "checkpoint/format/marks.h"

#include <gtest/gtest.h>

namespace belay::checkpoint {
namespace {

TEST(MarksTest, AQuarantineComesBackAsItWas) {
  const Quarantine mark{"rank-00000.model.safetensors is damaged: \"w\" from its byte 0\n", "2026-01-02T03:04:05.678Z"};
  const auto again = DecodeQuarantine(EncodeQuarantine(mark));
  ASSERT_TRUE(again) << again.error().Text();
  EXPECT_EQ(again->reason, mark.reason);
  EXPECT_EQ(again->found, mark.found);
}

TEST(MarksTest, WhatIsNoMarkIsRefused) {
  const auto code = [](std::string_view text) { return DecodeQuarantine(text).error().code; };
  EXPECT_EQ(code(""), base::Code::kCorrupt);
  EXPECT_EQ(code("{}"), base::Code::kCorrupt);
  EXPECT_EQ(code(R"({"format": "belay-quarantine", "version": 1, "reason": ""})"), base::Code::kCorrupt);
  EXPECT_EQ(code(R"({"format": "belay-quarantine", "version": 2, "reason": "x"})"), base::Code::kFormatVersion);
  EXPECT_EQ(code(R"({"format": "belay-quarantine", "reason": "x"})"), base::Code::kFormatVersion);
  EXPECT_TRUE(DecodeQuarantine(R"({"format": "belay-quarantine", "version": 1, "reason": "x", "later": 1})"));
}

TEST(MarksTest, AMarkThatCannotBeReadStillCounts) {
  EXPECT_NE(QuarantineFrom(std::string("nonsense")).reason, "");
  const base::Result<std::string> unread = base::Fail(base::Code::kIo, "cannot read it");
  EXPECT_NE(QuarantineFrom(unread).reason.find("cannot read it"), std::string::npos);
}

}  // namespace
}  // namespace belay::checkpoint
