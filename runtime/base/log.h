// Structured logs: one line an event, for people in `text` form and for machines in `json` form.
//
//   LogInfo("committed", {{"step", step}, {"seconds", 1.25}});
//
// Text form: 2026-11-22T10:11:12.345Z info  belayd committed step=1200 seconds=1.25
// Thread-safe. Goes to stderr until LogTo names a file. Level by BELAY_LOG=debug|info|warning|error.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>

#include "runtime/base/result.h"

namespace belay::base {

enum class LogLevel : std::uint8_t { kDebug, kInfo, kWarning, kError };

struct LogField {
  std::string_view key;
  std::variant<std::int64_t, double, bool, std::string> value;
  template <typename T>
  LogField(std::string_view name, const T& v) : key(name), value(ToValue(v)) {}  // NOLINT: reads well at call sites

 private:
  template <typename T>
  static std::variant<std::int64_t, double, bool, std::string> ToValue(const T& v) {
    if constexpr (std::is_same_v<T, bool>)
      return v;
    else if constexpr (std::is_integral_v<T>)
      return static_cast<std::int64_t>(v);
    else if constexpr (std::is_floating_point_v<T>)
      return static_cast<double>(v);
    else
      return Str(v);
  }
};

void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields = {});
inline void LogDebug(std::string_view e, std::initializer_list<LogField> f = {}) { Log(LogLevel::kDebug, e, f); }
inline void LogInfo(std::string_view e, std::initializer_list<LogField> f = {}) { Log(LogLevel::kInfo, e, f); }
inline void LogWarning(std::string_view e, std::initializer_list<LogField> f = {}) { Log(LogLevel::kWarning, e, f); }
inline void LogError(std::string_view e, std::initializer_list<LogField> f = {}) { Log(LogLevel::kError, e, f); }

struct LogOptions {
  std::string program;  // the name in each line
  std::string path;     // empty: stderr
  // 0: no limit. Else the file is renamed when it is this large (x.log to x.1.log, replacing it) and a new one begun.
  std::size_t bytes_max = 0;
  bool json = false;
  LogLevel level = LogLevel::kInfo;
};
// Once, at the start of main. kIo if the file cannot be opened.
Status StartLogging(const LogOptions& options);

}  // namespace belay::base
