// Environments as batch systems set them, with what belay makes of them: recorded/*.txt. Their first lines say where
// they are from.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "launcher/allocation/detect.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;

struct Recording {
  AllocationHost host;
  std::map<std::string, std::string> files;
  std::string expect;
};

Recording Read(const std::filesystem::path& path) {
  Recording recording;
  recording.host.cores = 16;
  std::ifstream in(path);
  std::string section;
  for (std::string line; std::getline(in, line);) {
    if (line.starts_with('[')) {
      section = line.substr(1, line.size() - 2);
      if (section.starts_with("host ")) recording.host.host_name = section.substr(5);
      if (section.starts_with("gpus ")) recording.host.gpus = std::stoi(section.substr(5));
    } else if (section == "environment") {
      const std::size_t equals = line.find('=');
      recording.host.environment[line.substr(0, equals)] = line.substr(equals + 1);
    } else if (section.starts_with("file ")) {
      recording.files[section.substr(5)] += line + "\n";
    } else if (section == "expect") {
      recording.expect += line + "\n";
    }
  }
  return recording;
}

TEST(RecordedTest, EveryRecordedEnvironmentIsUnderstood) {
  std::size_t count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(Str(BELAY_SOURCE_DIR, "/tests/launcher/allocation/recorded"))) {
    SCOPED_TRACE(entry.path().filename());
    Recording recording = Read(entry.path());
    recording.host.read_file = [&](const std::string& path) -> base::Result<std::string> {
      const auto found = recording.files.find(path);
      if (found == recording.files.end()) return base::Fail(base::Code::kNotFound, "no file ", path);
      return found->second;
    };
    const auto allocation = DetectAllocation({}, recording.host);
    ASSERT_TRUE(allocation) << allocation.error().Text();
    std::string text;
    for (const auto& [name, value] : DescribeAllocation(*allocation)) text += Str(name, " ", value, "\n");
    if (allocation->this_node) text += Str("this ", allocation->nodes[*allocation->this_node].name, "\n");
    EXPECT_EQ(text, recording.expect);
    ++count;
  }
  EXPECT_GE(count, 14U);
}

}  // namespace
}  // namespace belay::launcher
