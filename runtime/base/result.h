// Result<T>: a value or an Error. How every fallible function of belay answers.
//
// Exceptions do not cross threads, processes or C callbacks; an Error does, and serves log, JSON, wire and exit status
// alike. An Error's message says what happened, to which file, rank or host, and where possible what to do about it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

#include "runtime/base/error_codes.h"
#include "runtime/base/str.h"

namespace belay::base {

struct Error {
  Code code = Code::kInternal;
  std::string message;
  std::shared_ptr<const Error> cause;  // what lay beneath; may be null

  // "message: cause's message: ...", for people.
  std::string Text() const;
};

template <typename T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
  Result(tl::expected<T, Error>&& other) : tl::expected<T, Error>(std::move(other)) {}  // NOLINT: implicit on purpose
};

using Status = Result<void>;

// return Fail(Code::kIo, "cannot write ", path, ": ", reason);
template <typename... Args>
tl::unexpected<Error> Fail(Code code, const Args&... args) {
  return tl::unexpected<Error>(Error{code, Str(args...), nullptr});
}

// The same error one level up: keeps the code, puts the new words in front.
template <typename... Args>
tl::unexpected<Error> Wrap(Error cause, const Args&... args) {
  const Code code = cause.code;
  return tl::unexpected<Error>(Error{code, Str(args...), std::make_shared<const Error>(std::move(cause))});
}

// An Error for errno: ENOSPC and EDQUOT become kNoSpace, EROFS kReadOnly, EACCES and EPERM kPermissionDenied, ENOENT
// kNotFound, EEXIST kAlreadyExists, ENOMEM kOutOfMemory, the rest kIo. The text ends with strerror's words.
Error ErrnoError(int error_number, std::string_view what);
inline tl::unexpected<Error> FailErrno(int error_number, std::string_view what) {
  return tl::unexpected<Error>(ErrnoError(error_number, what));
}

// Drops an error on purpose; the reason is for the reader.
template <typename T>
void IgnoreError(const Result<T>& /*result*/, std::string_view /*reason*/) {}

}  // namespace belay::base

#define BELAY_CONCAT_INNER(a, b) a##b
#define BELAY_CONCAT(a, b) BELAY_CONCAT_INNER(a, b)

// Returns the error of `expression` (a Result or Status) from the current function.
#define BELAY_TRY(expression)                                                      \
  do {                                                                             \
    if (auto belay_try = (expression); !belay_try.has_value()) {                   \
      return ::tl::unexpected<::belay::base::Error>(std::move(belay_try).error()); \
    }                                                                              \
  } while (false)

// BELAY_ASSIGN(auto file, Open(path)): the value, or return the error.
#define BELAY_ASSIGN(declaration, expression) \
  BELAY_ASSIGN_INNER(BELAY_CONCAT(belay_result_, __LINE__), declaration, expression)
#define BELAY_ASSIGN_INNER(result, declaration, expression)                   \
  auto result = (expression);                                                 \
  if (!result.has_value()) {                                                  \
    return ::tl::unexpected<::belay::base::Error>(std::move(result).error()); \
  }                                                                           \
  declaration = std::move(result).value()
