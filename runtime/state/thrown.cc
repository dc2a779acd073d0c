#include "runtime/state/thrown.h"

#include <exception>
#include <new>

#include <c10/util/Exception.h>

namespace belay::runtime {

using base::Code;

base::Error ThrownError(std::string_view doing) {
  const auto error = [&](Code code, std::string_view words) {
    return base::Error{code, base::Str(doing, " failed: ", words), nullptr};
  };
  try {
    throw;
  } catch (const c10::OutOfMemoryError& thrown) {
    return error(Code::kOutOfMemory, thrown.what_without_backtrace());
  } catch (const c10::Error& thrown) {
    return error(Code::kDevice, thrown.what_without_backtrace());
  } catch (const std::bad_alloc&) {
    return error(Code::kOutOfMemory, "the host has no memory left");
  } catch (const std::exception& thrown) {
    return error(Code::kInvalidArgument, thrown.what());
  } catch (...) {
    return error(Code::kInvalidArgument, "something was thrown that is no std::exception");
  }
}

}  // namespace belay::runtime
