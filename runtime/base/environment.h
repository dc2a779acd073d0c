// The process environment and identity, read in one place. See `belay help environment` for the variables belay knows.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace belay::base {

std::optional<std::string> GetEnvironment(const std::string& name);
std::map<std::string, std::string> WholeEnvironment();
std::string HostName();
std::uint32_t UserId();
std::int32_t ProcessId();
// The user's home folder, from HOME or the password database; "/" if neither knows.
std::string HomeDirectory();
// Absolute path of the running program, links resolved; its folder. Where the file was replaced since the start the
// kernel's name of the old one, so who wants to find the new one asks early.
std::string ProgramPath();
std::string ProgramDirectory();
std::string CurrentDirectory();
// A number nobody can guess, from the kernel: to seed an Rng or to make a name fresh.
std::uint64_t RandomSeed();
// Ignores SIGPIPE: a closed peer is an error value, not a signal. Every program calls it first.
void IgnoreSigpipe();

}  // namespace belay::base
