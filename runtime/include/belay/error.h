// belay::Error: what the public API throws.
#pragma once

#include <stdexcept>
#include <string>

namespace belay {

// `exit_status` is the status of docs/exit-statuses.md with which an uncaught one ends the program.
class Error : public std::runtime_error {
 public:
  Error(int exit_status, const std::string& what) : std::runtime_error(what), exit_status_(exit_status) {}
  int exit_status() const { return exit_status_; }

 private:
  int exit_status_;
};

}  // namespace belay
