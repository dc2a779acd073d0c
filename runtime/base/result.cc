#include "runtime/base/result.h"

#include <array>
#include <cerrno>
#include <system_error>

namespace belay::base {

namespace {

constexpr std::array kCodes = {
#define BELAY_X(number, name, retry, exit, meaning) \
  CodeInfo{Code::k##name, #name, RetryClass::k##retry, ExitStatus::k##exit, meaning},
    BELAY_ERROR_CODES(BELAY_X)
#undef BELAY_X
};

Code CodeOfErrno(int error_number) {
  switch (error_number) {
    case ENOSPC:
    case EDQUOT:
      return Code::kNoSpace;
    case EROFS:
      return Code::kReadOnly;
    case EACCES:
    case EPERM:
      return Code::kPermissionDenied;
    case ENOENT:
      return Code::kNotFound;
    case EEXIST:
      return Code::kAlreadyExists;
    case ENOMEM:
      return Code::kOutOfMemory;
    case ETIMEDOUT:
      return Code::kTimeout;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE:
      return Code::kUnavailable;
    default:
      return Code::kIo;
  }
}

}  // namespace

std::string Error::Text() const {
  std::string text = message;
  for (const Error* inner = cause.get(); inner != nullptr; inner = inner->cause.get()) {
    text += ": " + inner->message;
  }
  return text;
}

Error ErrnoError(int error_number, std::string_view what) {
  return Error{CodeOfErrno(error_number), Str(what, ": ", std::generic_category().message(error_number)), nullptr};
}

const CodeInfo& Describe(Code code) {
  const CodeInfo* internal = nullptr;
  for (const CodeInfo& info : kCodes) {
    if (info.code == code) return info;
    if (info.code == Code::kInternal) internal = &info;
  }
  return *internal;
}

Code CodeFromNumber(std::uint32_t number) { return Describe(static_cast<Code>(number)).code; }

std::string_view ExitStatusMeaning(int status) {
  switch (status) {
#define BELAY_X(number, name, meaning) \
  case number:                         \
    return meaning;
    BELAY_EXIT_STATUSES(BELAY_X)
#undef BELAY_X
    default:
      return status > 128 && status <= 192 ? "a signal ended the program" : "exit status of the program";
  }
}

}  // namespace belay::base
