#include "runtime/base/control_group.h"

#include <sstream>

#include "runtime/base/str.h"

namespace belay::base {

std::vector<std::string> MemoryGroupFiles(const std::string& proc_self_cgroup, std::string_view unified,
                                          std::string_view first_version) {
  std::vector<std::string> files;
  std::istringstream lines(proc_self_cgroup);
  for (std::string line; std::getline(lines, line);) {  // number:controllers:path
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool in_unified = controllers == ",,";
    if (!in_unified && controllers.find(",memory,") == std::string::npos) continue;
    const std::string root = in_unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    const std::string name = Str("/", in_unified ? unified : first_version);
    for (std::string path = line.substr(second + 1);;) {
      while (!path.empty() && path.back() == '/') path.pop_back();
      files.push_back(root + path + name);
      if (path.empty()) break;
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
  }
  return files;
}

}  // namespace belay::base
