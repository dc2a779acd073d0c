// Small helps for the tests of runtime/base.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "runtime/base/file_system.h"
#include "runtime/base/str.h"

namespace belay::base {

// A folder of its own, removed at the end.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& parent = testing::TempDir()) {
    std::string pattern = parent + "/belay-test-XXXXXX";
    if (::mkdtemp(pattern.data()) != nullptr) path_ = pattern;
    EXPECT_FALSE(path_.empty()) << "cannot make a folder in " << parent;
  }
  ~ScratchFolder() {
    if (!path_.empty()) IgnoreError(RemoveTree(PosixFileSystem(), path_), "the next boot clears it");
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(std::string_view name) const { return Str(path_, '/', name); }

 private:
  std::string path_;
};

inline std::span<const std::byte> Bytes(std::string_view text) { return std::as_bytes(std::span(text)); }

template <typename T>
Code CodeOf(const Result<T>& result) {
  EXPECT_FALSE(result.has_value()) << "expected an error";
  return result.has_value() ? Code::kInternal : result.error().code;
}

#define EXPECT_OK(expression)                                       \
  do {                                                              \
    const auto& expect_ok = (expression);                           \
    EXPECT_TRUE(expect_ok.has_value()) << expect_ok.error().Text(); \
  } while (false)
#define ASSERT_OK(expression)                                       \
  do {                                                              \
    const auto& assert_ok = (expression);                           \
    ASSERT_TRUE(assert_ok.has_value()) << assert_ok.error().Text(); \
  } while (false)
#define EXPECT_CODE(expression, expected) EXPECT_EQ(::belay::base::CodeOf(expression), ::belay::base::Code::expected)

}  // namespace belay::base
