// The loss of every step as a JSON line: {"step": 12, "epoch": 0, "loss": 2.4123456789012345}
//
// 17 significant digits name a double exactly, so two logs can be compared bit for bit. A run that was killed has
// logged steps that no checkpoint kept; the run that resumes drops them, so that each step stands in the log exactly
// once. After a write that fails (a full disk) the log ends: a training is worth more than its log.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

namespace examples {

class LossLog {
 public:
  // For a run that goes on at `first_step`: keeps the lines of earlier steps, drops all others and a torn last line.
  // An empty path logs nothing. Throws std::system_error if the file cannot be read or written.
  LossLog(const std::string& path, std::int64_t first_step);

  // One write to the file, so that kill -9 loses at most this line. An error is one warning on stderr and the end of
  // the log; later calls do nothing.
  void Write(std::int64_t step, std::int64_t epoch, double loss);

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace examples
