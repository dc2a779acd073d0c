#include "checkpoint/cli/output.h"

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace belay::checkpoint::cli {
namespace {

std::string_view RetryText(base::RetryClass retry) {
  switch (retry) {
    case base::RetryClass::kRetryCall:
      return "retry";
    case base::RetryClass::kRestart:
      return "restart";
    case base::RetryClass::kDoNotRetry:
      return "do_not_retry";
    case base::RetryClass::kOutcomeUnknown:
      return "outcome_unknown";
  }
  return "do_not_retry";
}

}  // namespace

void Print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

void Note(const std::string& line) { std::fprintf(stderr, "belay: %s\n", line.c_str()); }

int Report(const base::Error& error, bool json) {
  const base::CodeInfo& info = base::Describe(error.code);
  const int status = static_cast<int>(info.exit_status);
  if (json) {
    const nlohmann::ordered_json document = {{"schema_version", kJsonSchemaVersion},
                                             {"error",
                                              {{"code", static_cast<int>(error.code)},
                                               {"name", info.name},
                                               {"message", error.Text()},
                                               {"exit_status", status},
                                               {"retry", RetryText(info.retry)}}}};
    Print(document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }
  Note(error.Text());
  return status;
}

std::string Table::Text() const {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    std::size_t width = columns_[c].title.size();
    for (const auto& row : rows_) width = std::max(width, row[c].size());
    widths.push_back(width);
  }
  std::string text;
  const auto add = [&](const auto& cell_of) {
    std::string line;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const std::string& cell = cell_of(c);
      const std::string pad(widths[c] - cell.size(), ' ');
      line += (c == 0 ? "" : "  ") + (columns_[c].right ? pad + cell : cell + pad);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  };
  add([&](std::size_t c) -> const std::string& { return columns_[c].title; });
  for (const auto& row : rows_) add([&](std::size_t c) -> const std::string& { return row[c]; });
  return text;
}

std::string AgeText(const std::string& created, base::WallTime now) {
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  if (std::sscanf(created.c_str(), "%d-%d-%dT%d:%d:%d", &year, &month, &day, &hour, &minute, &second) != 6) return "-";
  const std::chrono::year_month_day date{std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day))};
  if (!date.ok()) return "-";
  const auto then = std::chrono::sys_days(date) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
                    std::chrono::seconds(second);
  const auto age = std::chrono::duration_cast<std::chrono::seconds>(now.time_since_epoch() - then.time_since_epoch());
  const auto seconds = std::max<std::int64_t>(age.count(), 0);  // a clock that was set back
  if (seconds < 120) return base::Str(seconds, "s");
  if (seconds < 2 * 3600) return base::Str(seconds / 60, "m");
  if (seconds < 2 * 86400) return base::Str(seconds / 3600, "h");
  return base::Str(seconds / 86400, "d");
}

std::string ShapeText(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += base::Str(i == 0 ? "" : ", ", shape[i]);
  return text + "]";
}

std::string MetricsText(double value) { return base::Str(value); }

}  // namespace belay::checkpoint::cli
