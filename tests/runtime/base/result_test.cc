#include "runtime/base/result.h"

#include <cerrno>
#include <memory>
#include <set>

#include "runtime/base/check.h"
#include "tests/runtime/base/test_util.h"

namespace belay::base {
namespace {

Result<int> Half(int number) {
  if (number % 2 != 0) return Fail(Code::kInvalidArgument, number, " is odd");
  return number / 2;
}
Result<int> Quarter(int number) {
  BELAY_ASSIGN(const int half, Half(number));
  BELAY_TRY(Half(half));
  return half / 2;
}

TEST(ResultTest, TryAndAssignPassErrorsOn) {
  EXPECT_EQ(*Quarter(8), 2);
  EXPECT_EQ(Quarter(7).error().message, "7 is odd");
  EXPECT_EQ(Quarter(6).error().message, "3 is odd");
}

TEST(ResultTest, AssignMovesOut) {
  const auto outer = []() -> Result<std::unique_ptr<int>> {
    BELAY_ASSIGN(auto value, Result<std::unique_ptr<int>>(std::make_unique<int>(3)));
    return value;
  };
  EXPECT_EQ(**outer(), 3);
}

TEST(ResultTest, WrapKeepsCodeAndCause) {
  const Status wrapped = Wrap(Half(3).error(), "cannot halve for rank ", 2);
  EXPECT_CODE(wrapped, kInvalidArgument);
  EXPECT_EQ(wrapped.error().Text(), "cannot halve for rank 2: 3 is odd");
}

TEST(ResultTest, ErrnoBecomesACode) {
  EXPECT_EQ(ErrnoError(ENOSPC, "x").code, Code::kNoSpace);
  EXPECT_EQ(ErrnoError(EROFS, "x").code, Code::kReadOnly);
  EXPECT_EQ(ErrnoError(EACCES, "x").code, Code::kPermissionDenied);
  EXPECT_EQ(ErrnoError(EINVAL, "x").code, Code::kIo);
  EXPECT_EQ(ErrnoError(ENOENT, "cannot open /f").message, "cannot open /f: No such file or directory");
}

TEST(ErrorCodesTest, NumbersAndNamesAreUniqueAndFoundAgain) {
  std::set<int> numbers;
  std::set<std::string_view> names;
#define BELAY_X(number, word, retry, exit, meaning)     \
  EXPECT_TRUE(numbers.insert(number).second) << number; \
  EXPECT_TRUE(names.insert(#word).second) << #word;     \
  EXPECT_EQ(Describe(Code::k##word).name, #word);       \
  EXPECT_EQ(CodeFromNumber(number), Code::k##word);
  BELAY_ERROR_CODES(BELAY_X)
#undef BELAY_X
  EXPECT_EQ(CodeFromNumber(9999), Code::kInternal);
}

// Schedulers and scripts rely on these.
TEST(ExitStatusTest, NumbersHaveTheirMeaning) {
  EXPECT_EQ(static_cast<int>(ExitStatus::kUsage), 64);
  EXPECT_EQ(static_cast<int>(kExitPreempted), 75);
  EXPECT_EQ(static_cast<int>(ExitStatus::kGraceExpired), 72);
  EXPECT_EQ(ExitStatusMeaning(0), "finished");
  EXPECT_EQ(ExitStatusMeaning(137), "a signal ended the program");
  EXPECT_EQ(ExitStatusMeaning(3), "exit status of the program");
}

TEST(CheckDeathTest, TellsConditionAndWords) {
  const int rank = 3;
  EXPECT_DEATH(BELAY_CHECK(rank == 4, "rank ", rank), "CHECK\\(rank == 4\\) failed: rank 3");
}

}  // namespace
}  // namespace belay::base
