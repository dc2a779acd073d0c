// What every Index promises (runtime/base/index.h), as a typed suite. To run it on an Index of yours:
//
//   struct MyMaker { Index& index(); };     // a fresh, empty index, as long as the maker lives
//   INSTANTIATE_TYPED_TEST_SUITE_P(My, IndexContract, MyMaker);
#pragma once

#include "runtime/base/index.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {

template <typename Maker>
class IndexContract : public testing::Test {
 protected:
  void Put(std::string key, std::string value) {
    IndexBatch batch;
    batch.Put(std::move(key), std::move(value));
    EXPECT_OK(maker_.index().Write(batch));
  }
  std::vector<std::string> Keys(std::string_view prefix) {
    std::vector<std::string> keys;
    const auto found = maker_.index().Scan(prefix);
    EXPECT_TRUE(found.has_value()) << found.error().Text();
    if (found) {
      for (const auto& [key, value] : *found) keys.push_back(key);
    }
    return keys;
  }
  std::optional<std::string> Get(std::string_view key) {
    auto found = maker_.index().Get(key);
    EXPECT_TRUE(found.has_value()) << found.error().Text();
    return found.value_or(std::nullopt);
  }

  Maker maker_;
};
TYPED_TEST_SUITE_P(IndexContract);

TYPED_TEST_P(IndexContract, FindsWhatWasPut) {
  EXPECT_EQ(this->Get("a"), std::nullopt);
  this->Put("a", "1");
  EXPECT_EQ(this->Get("a"), "1");
  this->Put("a", "2");
  EXPECT_EQ(this->Get("a"), "2");
  EXPECT_EQ(this->Get("A"), std::nullopt);
  EXPECT_EQ(this->Get(""), std::nullopt);
}

TYPED_TEST_P(IndexContract, AnEmptyValueIsAValue) {
  this->Put("a", "");
  EXPECT_EQ(this->Get("a"), "");
}

TYPED_TEST_P(IndexContract, KeysAndValuesAreBytes) {
  const std::string key("k\0\xFFk", 4);
  const std::string value("v\0\n\x80", 4);
  this->Put(key, value);
  EXPECT_EQ(this->Get(key), value);
  EXPECT_EQ(this->Get(std::string_view(key).substr(0, 1)), std::nullopt);
}

TYPED_TEST_P(IndexContract, ABatchGoesInOrder) {
  IndexBatch batch;
  batch.Put("a", "1");
  batch.Put("a", "2");
  batch.Put("b", "1");
  batch.Delete("b");
  batch.Delete("never there");
  batch.Delete("c");
  batch.Put("c", "3");
  EXPECT_OK(this->maker_.index().Write(batch));
  EXPECT_EQ(this->Get("a"), "2");
  EXPECT_EQ(this->Get("b"), std::nullopt);
  EXPECT_EQ(this->Get("c"), "3");
}

TYPED_TEST_P(IndexContract, AnEmptyBatchIsFine) {
  EXPECT_OK(this->maker_.index().Write(IndexBatch()));
  EXPECT_THAT(this->Keys(""), testing::IsEmpty());
}

TYPED_TEST_P(IndexContract, ScansAPrefixInByteOrder) {
  for (const char* key : {"job/b", "job/a/2", "job/a/10", "joc", "jo", "job/\xFF", "job/a"}) this->Put(key, "x");
  EXPECT_THAT(this->Keys("job/"), testing::ElementsAre("job/a", "job/a/10", "job/a/2", "job/b", "job/\xFF"));
  EXPECT_THAT(this->Keys("job/a/"), testing::ElementsAre("job/a/10", "job/a/2"));
  EXPECT_THAT(this->Keys("job/\xFF"), testing::ElementsAre("job/\xFF"));
  EXPECT_THAT(this->Keys("nothing"), testing::IsEmpty());
  EXPECT_THAT(this->Keys(""), testing::SizeIs(7));
}

REGISTER_TYPED_TEST_SUITE_P(IndexContract, FindsWhatWasPut, AnEmptyValueIsAValue, KeysAndValuesAreBytes,
                            ABatchGoesInOrder, AnEmptyBatchIsFine, ScansAPrefixInByteOrder);

}  // namespace belay::base
