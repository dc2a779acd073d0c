// The files of a run's metrics: metrics.jsonl and a TensorBoard event file, in the run directory.
//
// A line of metrics.jsonl: {"time": RFC 3339 in UTC, "step": n, "loss": 17 digits, ...}; a number that is not finite is
// null. The first error (a full disk, most likely) is one warning and the end of the files, never of training.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/base/clock.h"
#include "runtime/base/file_system.h"
#include "runtime/metrics/event_file.h"

namespace belay::runtime {

class MetricsFiles {
 public:
  // `directory` empty: no files. `unique` tells this process's event file from others' (host and pid).
  MetricsFiles(base::FileSystem& files, base::Clock& clock, const std::string& directory, const std::string& unique);

  // One line, one event.
  void Scalars(std::int64_t step, const NamedScalars& values);
  void Text(std::int64_t step, const std::string& name, const std::string& text);
  bool Writing() const { return lines_.file != nullptr; }

 private:
  struct Stream {
    std::unique_ptr<base::File> file;
    std::uint64_t size = 0;
    base::Status Append(const std::string& bytes);
  };
  base::Status Open(base::FileSystem& files, const std::string& directory, const std::string& unique);
  void Check(const base::Status& status);
  double WallSeconds() const;

  base::Clock& clock_;
  std::string directory_;
  Stream lines_, events_;
};

std::string FormatUtc(base::WallTime time);     // 2026-11-22T10:11:12.345Z
std::string JsonNumber(double value);           // 17 digits; "null" if not finite
std::string JsonString(std::string_view text);  // quoted; bytes that are not UTF-8 are replaced

}  // namespace belay::runtime
