#include "runtime/base/process_marks.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cctype>
#include <charconv>
#include <cstring>
#include <set>

#include "runtime/base/clock.h"
#include "runtime/base/str.h"
#include "runtime/base/unique_fd.h"

namespace belay::base {
namespace {

// The whole file, or what can be had of it: a process may end while it is read.
std::string ReadProc(const std::string& path) {
  std::string text;
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return text;
  char piece[16384];
  for (ssize_t got = 0; (got = ::read(fd.get(), piece, sizeof piece)) > 0;)
    text.append(piece, static_cast<std::size_t>(got));
  return text;
}

bool IsZombie(const std::string& process) {
  const std::string stat = ReadProc(process + "/stat");
  const std::size_t after = stat.rfind(')');  // the program's name may hold anything
  return after == std::string::npos || after + 2 >= stat.size() || stat[after + 2] == 'Z' || stat[after + 2] == 'X';
}

}  // namespace

std::vector<pid_t> FindMarkedProcesses(const std::string& name, const std::string& value) {
  std::vector<pid_t> found;
  DIR* folder = ::opendir("/proc");
  if (folder == nullptr) return found;
  const std::string mark = Str(name, '=', value, '\0');
  while (const dirent* entry = ::readdir(folder)) {
    const char* const end = entry->d_name + std::strlen(entry->d_name);
    pid_t pid = 0;
    if (const auto [stop, error] = std::from_chars(entry->d_name, end, pid); error != std::errc() || stop != end)
      continue;
    if (pid == ::getpid()) continue;
    const std::string process = Str("/proc/", pid);
    const std::string environment = ReadProc(process + "/environ");
    const std::size_t at = environment.find(mark);
    if (at == std::string::npos || (at != 0 && environment[at - 1] != '\0') || IsZombie(process)) continue;
    found.push_back(pid);
  }
  ::closedir(folder);
  return found;
}

MarkedKill KillMarkedProcesses(const std::string& name, const std::string& value, int rounds) {
  std::set<pid_t> killed;
  for (int round = 0;; ++round) {
    const std::vector<pid_t> alive = FindMarkedProcesses(name, value);
    if (alive.empty() || round == rounds) return {static_cast<int>(killed.size()), static_cast<int>(alive.size())};
    for (const pid_t pid : alive) {
      if (::kill(pid, SIGKILL) == 0) killed.insert(pid);
    }
    SystemClock().SleepFor(std::chrono::milliseconds(20));
  }
}

}  // namespace belay::base
