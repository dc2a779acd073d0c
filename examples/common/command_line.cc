#include "examples/common/command_line.h"

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

std::int64_t CommandLine::Integer(const std::string& name, std::int64_t least, std::int64_t most) const {
  const auto value = parsed_[name].as<std::int64_t>();
  if (value < least || value > most) {
    std::ostringstream message;
    message << "--" << name << "=" << value << " must be at least " << least;
    if (most != INT64_MAX) message << " and at most " << most;
    Refuse(message.str());
  }
  return value;
}

double CommandLine::Real(const std::string& name, double least, double most) const {
  const auto value = parsed_[name].as<double>();
  if (!(value >= least && value <= most)) {  // NaN is refused too
    std::ostringstream message;
    message << "--" << name << "=" << value << " must lie between " << least << " and " << most;
    Refuse(message.str());
  }
  return value;
}

}  // namespace examples
