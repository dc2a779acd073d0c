#include "examples/common/loss_log.h"

#include <cerrno>
#include <cinttypes>
#include <cmath>
#include <cstring>
#include <fstream>
#include <string>
#include <system_error>

namespace examples {
namespace {

[[noreturn]] void Fail(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

// The complete lines of `path` for steps before `first_step`; empty if there is no such file.
std::string EarlierLines(const std::string& path, std::int64_t first_step) {
  std::ifstream input(path);
  std::string kept, line;
  while (std::getline(input, line)) {
    std::int64_t step = 0;
    const bool complete = !input.eof() && !line.empty() && line.back() == '}';
    if (!complete || std::sscanf(line.c_str(), "{\"step\": %" SCNd64, &step) != 1) continue;
    if (step < first_step) kept += line + "\n";
  }
  return kept;
}

}  // namespace

LossLog::LossLog(const std::string& path, std::int64_t first_step) : path_(path) {
  if (path.empty()) return;
  const std::string kept = EarlierLines(path, first_step);
  // Beside the log and renamed over it: whoever reads the log never sees it half written.
  const std::string fresh = path + ".new";
  std::unique_ptr<std::FILE, Close> output(std::fopen(fresh.c_str(), "w"));
  if (!output) Fail("cannot create " + fresh);
  if (std::fwrite(kept.data(), 1, kept.size(), output.get()) != kept.size() || std::fflush(output.get()) != 0) {
    Fail("cannot write " + fresh);
  }
  if (std::rename(fresh.c_str(), path.c_str()) != 0) Fail("cannot replace " + path);
  file_ = std::move(output);
}

void LossLog::Write(std::int64_t step, std::int64_t epoch, double loss) {
  if (!file_) return;
  // JSON has no NaN and no infinity.
  char number[32] = "null";
  if (std::isfinite(loss)) std::snprintf(number, sizeof number, "%.17g", loss);
  std::fprintf(file_.get(), "{\"step\": %" PRId64 ", \"epoch\": %" PRId64 ", \"loss\": %s}\n", step, epoch, number);
  if (std::fflush(file_.get()) == 0) return;
  std::fprintf(stderr, "warning: cannot write %s at step %" PRId64 ": %s; the loss log ends here, training goes on\n",
               path_.c_str(), step, std::strerror(errno));
  file_.reset();
}

}  // namespace examples
