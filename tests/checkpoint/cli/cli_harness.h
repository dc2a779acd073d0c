// Runs `belay ckpt` and `belay daemon` in this process: words in, stdout, stderr and exit status out.
#pragma once

#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "checkpoint/cli/commands.h"
#include "tests/checkpoint/client/sample_state.h"

namespace belay::checkpoint {

using nlohmann::json;

struct Ran {
  int status = 0;
  std::string out, err;
  json document() const { return json::parse(out); }
};

// "ckpt ..." or "daemon ...".
inline Ran Belay(const std::string& group, std::vector<std::string> words) {
  words.insert(words.begin(), group);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  Ran ran;
  ran.status = (group == "ckpt" ? CkptMain : DaemonMain)(static_cast<int>(argv.size()), argv.data());
  ran.out = testing::internal::GetCapturedStdout();
  ran.err = testing::internal::GetCapturedStderr();
  return ran;
}

inline std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void Damage(const std::string& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-50, std::ios::end);
  file.put('?');
}

// Files only, no belayd: gpt at steps 10 and 20, vision at step 5.
class OfflineTest : public testing::Test {
 protected:
  OfflineTest() {
    for (const int step : {10, 20}) WriteSampleCheckpoint(scratch_.path() + "/default/gpt", step, 2);
    WriteSampleCheckpoint(scratch_.path() + "/other/vision", 5, 1);
    // belayd is found by PATH when a command has to start one.
    const std::string program = BELAYD_PROGRAM;
    const char* path = std::getenv("PATH");
    ::setenv("PATH", (program.substr(0, program.rfind('/')) + ":" + (path == nullptr ? "" : path)).c_str(), 1);
    for (const char* name : {"BELAY_SOCKET", "BELAY_DATA_DIR", "BELAY_PROJECT"}) ::unsetenv(name);
  }
  Ran Ckpt(std::vector<std::string> words) {
    words.insert(words.end(), {"--data-dir", scratch_.path()});
    return Belay("ckpt", std::move(words));
  }
  std::string Folder(int step) const {
    return scratch_.path() + "/default/gpt/step-0000000" + std::to_string(step) + ".gen-1";
  }
  ScratchFolder scratch_;
};

}  // namespace belay::checkpoint
