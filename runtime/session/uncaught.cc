#include "runtime/session/uncaught.h"

#include <unistd.h>

#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include <c10/util/Exception.h>

#include "belay/error.h"
#include "runtime/base/exit_status.h"
#include "runtime/base/str.h"

namespace belay::runtime {
namespace {

std::terminate_handler previous = nullptr;
int named_rank = -1;
int named_size = 0;

void Say(const std::string& words) {
  const std::string who = named_rank < 0 ? "belay: " : base::Str("belay: rank ", named_rank, " of ", named_size, ": ");
  const std::string line = who + words + "\n";
  std::fflush(nullptr);
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

[[noreturn]] void End() {
  if (const std::exception_ptr current = std::current_exception()) {
    try {
      std::rethrow_exception(current);
    } catch (const Error& error) {
      Say(error.what());
      _exit(error.exit_status());
    } catch (const c10::DistError& error) {
      // Without torch's backtrace: the words say which operation and rank.
      Say(error.what_without_backtrace());
      _exit(static_cast<int>(base::ExitStatus::kUnavailable));
    } catch (const c10::OutOfMemoryError& error) {
      // Not a crash of the program: nobody is to blame its checkpoint for it.
      Say(error.what_without_backtrace());
      _exit(static_cast<int>(base::ExitStatus::kOsError));
    } catch (const std::bad_alloc&) {
      Say("no memory is left on this host");
      _exit(static_cast<int>(base::ExitStatus::kOsError));
    } catch (const std::exception& error) {
      Say(error.what());
    } catch (...) {
      Say("an exception of an unknown type");
    }
  }
  if (previous != nullptr) previous();
  std::abort();
}

}  // namespace

void EndOnUncaughtErrors() {
  const std::terminate_handler current = std::get_terminate();
  if (current == End) return;
  previous = current;
  std::set_terminate(End);
}

void NameRankInErrors(int rank, int world_size) {
  named_rank = rank;
  named_size = world_size;
}

}  // namespace belay::runtime
