// Command lines of the examples: cxxopts, with the checks that a trainer wants before it takes a GPU.
//
// A bad command line ends the program at once with status 64 and one line that says what is wrong: before MPI and
// libtorch have started, so that nothing is left half begun.
#pragma once

#include <cstdint>
#include <string>

#include <cxxopts.hpp>

namespace examples {

inline constexpr int kExitUsage = 64;       // EX_USAGE of sysexits(3)
inline constexpr int kExitBadData = 65;     // EX_DATAERR
inline constexpr int kExitNoInput = 66;     // EX_NOINPUT
inline constexpr int kExitCantCreate = 73;  // EX_CANTCREAT

class CommandLine {
 public:
  // Parses; `--help` prints the help and exits 0. Unknown, repeated and malformed options exit 64.
  CommandLine(const std::string& program, cxxopts::Options options, int argc, char** argv);

  std::string Text(const std::string& name) const { return parsed_[name].as<std::string>(); }
  bool Flag(const std::string& name) const { return parsed_[name].as<bool>(); }
  // Numbers outside [least, most] exit 64.
  std::int64_t Integer(const std::string& name, std::int64_t least, std::int64_t most = INT64_MAX) const;
  double Real(const std::string& name, double least, double most) const;

  // "train_gpt: <message>" and how to get help, then status 64.
  [[noreturn]] void Refuse(const std::string& message) const;

 private:
  template <typename T>
  T Number(const std::string& name, const std::string& what) const;

  std::string program_;
  cxxopts::ParseResult parsed_;
};

// "<program>: <message>" to stderr, then the status.
[[noreturn]] void Die(const std::string& program, int status, const std::string& message);

}  // namespace examples
