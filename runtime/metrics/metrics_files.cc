#include "runtime/metrics/metrics_files.h"

#include <array>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <span>

#include <nlohmann/json.hpp>

#include "runtime/base/log.h"

namespace belay::runtime {

std::string FormatUtc(base::WallTime time) {
  const auto since = std::chrono::floor<std::chrono::milliseconds>(time.time_since_epoch());
  const std::time_t seconds = static_cast<std::time_t>(std::chrono::floor<std::chrono::seconds>(since).count());
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 64> text{};
  std::snprintf(text.data(), text.size(), "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", parts.tm_year + 1900, parts.tm_mon + 1,
                parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec, static_cast<int>(since.count() % 1000));
  return text.data();
}

std::string JsonNumber(double value) {
  if (!std::isfinite(value)) return "null";
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%.17g", value);
  return text.data();
}

std::string JsonString(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

base::Status MetricsFiles::Stream::Append(const std::string& bytes) {
  BELAY_TRY(file->WriteAt(size, std::as_bytes(std::span(bytes))));
  size += bytes.size();
  return {};
}

MetricsFiles::MetricsFiles(base::FileSystem& files, base::Clock& clock, const std::string& directory,
                           const std::string& unique)
    : clock_(clock), directory_(directory) {
  if (!directory.empty()) Check(Open(files, directory, unique));
}

base::Status MetricsFiles::Open(base::FileSystem& files, const std::string& directory, const std::string& unique) {
  BELAY_TRY(base::MakeDirectories(files, directory));
  BELAY_ASSIGN(lines_.file, files.Open(directory + "/metrics.jsonl", {.mode = base::OpenOptions::Mode::kAppend}));
  BELAY_ASSIGN(lines_.size, lines_.file->Size());
  const auto seconds = static_cast<std::int64_t>(WallSeconds());
  BELAY_ASSIGN(events_.file, files.Open(base::Str(directory, "/events.out.tfevents.", seconds, ".", unique),
                                        {.mode = base::OpenOptions::Mode::kCreateOrTruncate}));
  return events_.Append(FrameRecord(EncodeFileVersion(WallSeconds())));
}

void MetricsFiles::Check(const base::Status& status) {
  if (status) return;
  base::LogWarning("no more metrics files; training goes on",
                   {{"directory", directory_}, {"reason", status.error().Text()}});
  lines_.file.reset();
  events_.file.reset();
}

double MetricsFiles::WallSeconds() const {
  return std::chrono::duration<double>(clock_.WallNow().time_since_epoch()).count();
}

void MetricsFiles::Scalars(std::int64_t step, const NamedScalars& values) {
  if (!Writing()) return;
  std::string line = base::Str("{\"time\":\"", FormatUtc(clock_.WallNow()), "\",\"step\":", step);
  for (const auto& [name, value] : values) line += base::Str(",", JsonString(name), ":", JsonNumber(value));
  Check(lines_.Append(line + "}\n"));
  if (Writing()) Check(events_.Append(FrameRecord(EncodeScalars(WallSeconds(), step, values))));
}

void MetricsFiles::Text(std::int64_t step, const std::string& name, const std::string& text) {
  if (!Writing()) return;
  Check(lines_.Append(base::Str("{\"time\":\"", FormatUtc(clock_.WallNow()), "\",\"step\":", step, ",",
                                JsonString(name), ":", JsonString(text), "}\n")));
  if (Writing()) Check(events_.Append(FrameRecord(EncodeText(WallSeconds(), step, name, text))));
}

}  // namespace belay::runtime
