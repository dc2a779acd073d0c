#include "checkpoint/format/layout.h"

#include <gtest/gtest.h>

#include <limits>

#include "checkpoint/format/boxes.h"
#include "tests/checkpoint/format/random_layout.h"
#include "tests/checkpoint/format/sample_checkpoint.h"

namespace belay::checkpoint {
namespace {

using base::Code;

RankLayout One(TensorSpec tensor) { return {base::Rank(0), {{"model", {std::move(tensor)}}}}; }
Code CodeOf(const base::Status& status) { return status ? Code::kInternal : status.error().code; }

TEST(LayoutTest, KnowsEveryDtypeByName) {
  for (int i = 0; i <= static_cast<int>(DType::kF8E5M2); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(DTypeFromName(DTypeName(dtype)), dtype);
    EXPECT_GE(DTypeBytes(dtype), 1U);
  }
  EXPECT_EQ(DTypeBytes(DType::kC128), 16U);
  EXPECT_EQ(DTypeFromName("F4"), std::nullopt);
}

TEST(LayoutTest, EncodesAsDocumented) {
  const RankLayout layout{base::Rank(3),
                          {{"model", {{"a b", DType::kF32, {4, 8}, WholeBox({4, 8})}, {"s", DType::kBool, {}, Box{}}}},
                           {"optimizer", {{"m", DType::kBF16, {4, 8}, Box{{2, 0}, {2, 8}}}}}}};
  const std::string text =
      "belay-layout 1 3 2\n"
      "part model 2\n"
      "F32 4,8 * a b\n"
      "BOOL - * s\n"
      "part optimizer 1\n"
      "BF16 4,8 2,0:2,8 m\n";
  EXPECT_EQ(EncodeLayout(layout), text);
  const auto decoded = DecodeLayout(text);
  ASSERT_TRUE(decoded) << decoded.error().Text();
  EXPECT_EQ(*decoded, layout);
}

TEST(LayoutTest, APartMayHaveChangingAndFrozenTensors) {
  RankLayout layout{base::Rank(0),
                    {{"model", {{"adapter", DType::kF32, {4}, WholeBox({4})}}},
                     {"model", {{"base", DType::kF32, {8}, WholeBox({8})}}, true}}};
  const std::string text = "belay-layout 1 0 2\npart model 1\nF32 4 * adapter\nfrozen model 1\nF32 8 * base\n";
  EXPECT_EQ(EncodeLayout(layout), text);
  const auto decoded = DecodeLayout(text);
  ASSERT_TRUE(decoded) << decoded.error().Text();
  EXPECT_EQ(*decoded, layout);
  RankLayout trained = layout;
  trained.parts[1] = {"other", layout.parts[1].tensors};
  EXPECT_NE(LayoutFingerprint(layout), LayoutFingerprint(trained));

  layout.parts[1].tensors[0].name = "adapter";
  EXPECT_EQ(CodeOf(ValidateLayout(layout)), Code::kInvalidArgument) << "one name of both kinds";
  layout.parts[1] = {"model", {{"base", DType::kF32, {8}, WholeBox({8})}}};
  EXPECT_EQ(CodeOf(ValidateLayout(layout)), Code::kInvalidArgument) << "two parts of one kind";
}

TEST(LayoutTest, ComesBackFromItsText) {
  for (const std::uint64_t seed : test::Seeds(200)) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    base::Rng rng(seed);
    for (const RankLayout& layout : test::MakeRandomWorld(rng).layouts) {
      ASSERT_TRUE(ValidateLayout(layout));
      const auto decoded = DecodeLayout(EncodeLayout(layout));
      ASSERT_TRUE(decoded) << decoded.error().Text();
      ASSERT_EQ(*decoded, layout);
    }
  }
}

TEST(LayoutTest, RefusesTextThatItWouldNotWrite) {
  const std::string good = "belay-layout 1 3 1\npart model 1\nF32 4,8 * w\n";
  ASSERT_TRUE(DecodeLayout(good));
  const std::vector<std::string> bad{
      "",
      "belay-layout 1 3 1",
      "belay-layouts 1 3 1\npart model 1\nF32 4,8 * w\n",
      "belay-layout 1 03 1\npart model 1\nF32 4,8 * w\n",
      "belay-layout 1 3 2\npart model 1\nF32 4,8 * w\n",
      good + "\n",
      good + "F32 4,8 * v\n",
      "belay-layout 1 3 1\npart model 1\nF31 4,8 * w\n",
      "belay-layout 1 3 1\npart model 1\nF32 4,8 0,0:4,8 w\n",  // whole boxes are written "*"
      "belay-layout 1 3 1\npart model 1\nF32 4,,8 * w\n",
      "belay-layout 1 3 1\npart model 1\nF32 +4,8 * w\n",
      "belay-layout 1 3 1\npart model 1\nF32 4,8 * \n",
      "belay-layout 1 3 1\npart model 1\nF32 99999999999999999999 * w\n",
      "belay-layout 1 3 1\npart Model 1\nF32 4,8 * w\n",
      "belay-layout 1 3 1\npart model 1\nF32 4,8 2,0:3,8 w\n",
      "belay-layout 1 -1 1\npart model 1\nF32 4,8 * w\n",
      "belay-layout 1 3 1\npart model 2\nF32 4,8 * w\nF32 4,8 * w\n",
      "belay-layout 1 3 1\npart model 1\nF32 4,8 * w\xFF\n",
  };
  for (const std::string& text : bad) EXPECT_FALSE(DecodeLayout(text)) << text;
  EXPECT_EQ(DecodeLayout("belay-layout 2 3 1\n").error().code, Code::kFormatVersion);
  EXPECT_EQ(DecodeLayout("belay-layout 1 3 99999\n").error().code, Code::kLimitExceeded);
}

TEST(LayoutTest, FingerprintIsOfEverythingButTheRank) {
  const RankLayout layout = test::SampleWorld()[0];
  RankLayout same = layout;
  same.rank = base::Rank(77);
  EXPECT_EQ(LayoutFingerprint(same), LayoutFingerprint(layout));
  EXPECT_EQ(LayoutFingerprint(layout).size(), 32U);
  RankLayout dtype = layout, name = layout, box = layout, part = layout;
  dtype.parts[0].tensors[2].dtype = DType::kI64;
  name.parts[0].tensors[2].name += "x";
  box.parts[0].tensors[0].box.offsets[0] = 1;
  part.parts[1].part = "optimiser";
  for (const RankLayout& other : {dtype, name, box, part})
    EXPECT_NE(LayoutFingerprint(other), LayoutFingerprint(layout));
}

TEST(LayoutTest, RefusesBadNames) {
  const auto code = [](std::string name) {
    return CodeOf(ValidateLayout(One({std::move(name), DType::kF32, {}, Box{}})));
  };
  EXPECT_EQ(code(""), Code::kInvalidArgument);
  EXPECT_EQ(code("a\nb"), Code::kInvalidArgument);
  EXPECT_EQ(code("a\xC0\x80"), Code::kInvalidArgument);
  EXPECT_EQ(code(std::string(kNameBytesMax + 1, 'a')), Code::kLimitExceeded);
  EXPECT_TRUE(ValidateLayout(One({std::string(kNameBytesMax, 'a'), DType::kF32, {}, Box{}})));
  for (const char* part : {"", "Model", "1model", "a.b", "a-b"}) {
    EXPECT_EQ(CodeOf(ValidateLayout({base::Rank(0), {{part, {}}}})), Code::kInvalidArgument) << part;
  }
  EXPECT_EQ(CodeOf(ValidateLayout({base::Rank(0), {{"a", {}}, {"a", {}}}})), Code::kInvalidArgument);
}

TEST(LayoutTest, RefusesBadExtents) {
  const std::int64_t large = std::numeric_limits<std::int64_t>::max();
  const auto code = [](std::vector<std::int64_t> shape, Box box) {
    return CodeOf(ValidateLayout(One({"w", DType::kF32, std::move(shape), std::move(box)})));
  };
  EXPECT_EQ(code({-1}, WholeBox({-1})), Code::kInvalidArgument);
  EXPECT_EQ(code({4}, Box{{3}, {2}}), Code::kInvalidArgument);
  EXPECT_EQ(code({4}, Box{{large}, {large}}), Code::kInvalidArgument);
  EXPECT_EQ(code({4}, Box{{0, 0}, {4, 1}}), Code::kInvalidArgument);
  EXPECT_EQ(code({4}, Box{{0}, {}}), Code::kInvalidArgument);
  EXPECT_EQ(code({large, large}, WholeBox({large, large})), Code::kLimitExceeded);
  const std::vector<std::int64_t> deep(kDimensionsMax + 1, 1);
  EXPECT_EQ(code(deep, WholeBox(deep)), Code::kLimitExceeded);
}

}  // namespace
}  // namespace belay::checkpoint
