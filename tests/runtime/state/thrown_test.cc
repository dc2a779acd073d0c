#include "runtime/state/thrown.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <stdexcept>

#include <torch/torch.h>

namespace belay::runtime {
namespace {

base::Error Of(const std::function<void()>& throwing) {
  try {
    throwing();
  } catch (...) {
    return ThrownError("counting sheep");
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

TEST(ThrownTest, EveryKindBecomesAnErrorWithItsWords) {
  const auto torch_error = Of([] { torch::zeros({2}).reshape({3}); });
  EXPECT_EQ(torch_error.code, base::Code::kDevice);
  EXPECT_THAT(torch_error.Text(), testing::StartsWith("counting sheep failed: "));
  EXPECT_THAT(torch_error.Text(), testing::HasSubstr("shape '[3]' is invalid"));
  EXPECT_THAT(torch_error.Text(), testing::Not(testing::HasSubstr("frame #"))) << "no backtrace in a log line";

  const auto no_device_memory = Of([] { TORCH_CHECK_WITH(OutOfMemoryError, false, "CUDA out of memory"); });
  EXPECT_EQ(no_device_memory.code, base::Code::kOutOfMemory);
  EXPECT_THAT(no_device_memory.Text(), testing::HasSubstr("CUDA out of memory"));

  EXPECT_EQ(Of([] { throw std::bad_alloc(); }).code, base::Code::kOutOfMemory);

  const auto own = Of([] { throw std::runtime_error("no more sheep"); });
  EXPECT_EQ(own.code, base::Code::kInvalidArgument);
  EXPECT_EQ(own.Text(), "counting sheep failed: no more sheep");

  EXPECT_THAT(Of([] { throw 7; }).Text(), testing::HasSubstr("no std::exception"));
}

}  // namespace
}  // namespace belay::runtime
