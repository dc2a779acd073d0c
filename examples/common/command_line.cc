#include "examples/common/command_line.h"

#include <charconv>
#include <cstdlib>
#include <iostream>
#include <set>
#include <sstream>

namespace examples {

void Die(const std::string& program, int status, const std::string& message) {
  std::cerr << program << ": " << message << std::endl;
  std::exit(status);
}

CommandLine::CommandLine(const std::string& program, cxxopts::Options options, int argc, char** argv)
    : program_(program) {
  options.add_options()("h,help", "Show this help and exit");
  try {
    parsed_ = options.parse(argc, argv);
  } catch (const cxxopts::exceptions::exception& error) {
    Refuse(error.what());
  }
  if (parsed_.count("help") > 0) {
    std::cout << options.help();
    std::exit(0);
  }
  if (!parsed_.unmatched().empty()) Refuse("unexpected argument '" + parsed_.unmatched().front() + "'");
  std::set<std::string> seen;
  for (const auto& argument : parsed_.arguments()) {
    if (!seen.insert(argument.key()).second) Refuse("--" + argument.key() + " is given twice");
  }
}

void CommandLine::Refuse(const std::string& message) const {
  Die(program_, kExitUsage, message + " (" + program_ + " --help lists the options)");
}

// The options are declared as text: cxxopts' own words do not say which option a value was meant for.
template <typename T>
T CommandLine::Number(const std::string& name, const std::string& what) const {
  const std::string text = Text(name);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) Refuse("--" + name + "=" + text + " is not " + what);
  return value;
}

std::int64_t CommandLine::Integer(const std::string& name, std::int64_t least, std::int64_t most) const {
  const auto value = Number<std::int64_t>(name, "a whole number");
  if (value < least || value > most) {
    std::ostringstream message;
    message << "--" << name << "=" << value << " must be at least " << least;
    if (most != INT64_MAX) message << " and at most " << most;
    Refuse(message.str());
  }
  return value;
}

double CommandLine::Real(const std::string& name, double least, double most) const {
  const auto value = Number<double>(name, "a number");
  if (!(value >= least && value <= most)) {  // NaN is refused too
    std::ostringstream message;
    message << "--" << name << "=" << value << " must lie between " << least << " and " << most;
    Refuse(message.str());
  }
  return value;
}

}  // namespace examples
