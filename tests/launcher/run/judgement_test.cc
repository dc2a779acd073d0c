#include "launcher/run/judgement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace belay::launcher {
namespace {

using base::Code;
using checkpoint::Trust;
using checkpoint::TrustState;
using testing::AllOf;
using testing::HasSubstr;

std::string Words(ResumeFate fate, const base::Result<Trust>& trust) {
  return JudgementWords({{"default", "gpt"}, base::Step(1200), base::Generation(3)}, fate, trust);
}

TEST(JudgementTest, TellsWhatBelaydIsAndHowToTakeItBack) {
  EXPECT_THAT(Words(ResumeFate::kFailed, Trust{TrustState::kUnknown, 1, {}, "x"}),
              AllOf(HasSubstr("step 1200"), HasSubstr("if the next one does too")));
  EXPECT_THAT(
      Words(ResumeFate::kFailed, Trust{TrustState::kSuspect, 2, {}, "x"}),
      AllOf(HasSubstr("suspect"), HasSubstr("2 resumes"), HasSubstr("belay ckpt trust gpt 1200 good --generation 3")));
  EXPECT_THAT(Words(ResumeFate::kDiverged, Trust{TrustState::kSuspect, 1, {}, "x"}), HasSubstr("gives no numbers"));
}

TEST(JudgementTest, IsSilentWhenThereIsNothingToSay) {
  EXPECT_EQ(Words(ResumeFate::kProved, Trust{TrustState::kGood, 0, {}, ""}), "");
  EXPECT_EQ(Words(ResumeFate::kFailed, Trust{TrustState::kGood, 0, {}, ""}), "");
  EXPECT_EQ(Words(ResumeFate::kFailed, base::Fail(Code::kNotFound, "gone")), "");
  EXPECT_EQ(Words(ResumeFate::kFailed, base::Fail(Code::kUnsupported, "a belayd of last year")), "");
  EXPECT_THAT(Words(ResumeFate::kFailed, base::Fail(Code::kNoSpace, "the disk is full")),
              HasSubstr("the disk is full"));
}

TEST(JudgementTest, NamesTheCheckpointAndTheRunThatSaysSo) {
  std::string said;
  const auto verdict = VerdictOn({{1200, 3}, ResumeFate::kFailed, "rank 1 died"}, {"default", "gpt"},
                                 base::Generation(5), [&](std::string words) { said = std::move(words); });
  EXPECT_EQ(verdict.key.step, base::Step(1200));
  EXPECT_EQ(verdict.key.generation, base::Generation(3));
  EXPECT_EQ(verdict.by, base::Generation(5));
  EXPECT_EQ(verdict.judgement, checkpoint::Judgement::kFailed);
  EXPECT_EQ(verdict.reason, "rank 1 died");
  verdict.told(Trust{TrustState::kSuspect, 2, {}, "x"});
  EXPECT_THAT(said, HasSubstr("suspect"));
}

}  // namespace
}  // namespace belay::launcher
