#include "runtime/base/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cmath>
#include <cstdio>
#include <mutex>
#include <nlohmann/json.hpp>

#include "runtime/base/clock.h"
#include "runtime/base/environment.h"

namespace belay::base {

namespace {

constexpr std::string_view LevelName(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return "debug";
    case LogLevel::kInfo:
      return "info";
    case LogLevel::kWarning:
      return "warning";
    case LogLevel::kError:
      return "error";
  }
  return "?";
}

// BELAY_LOG if it names a level; otherwise what the program wants.
LogLevel ChosenLevel(LogLevel wanted) {
  const std::string name = GetEnvironment("BELAY_LOG").value_or("");
  for (const LogLevel level : {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarning, LogLevel::kError}) {
    if (name == LevelName(level)) return level;
  }
  return wanted;
}

struct Sink {
  std::string program;
  bool json = false;
  LogLevel level = LogLevel::kInfo;
  std::shared_ptr<spdlog::logger> logger;
};

std::shared_ptr<spdlog::logger> MakeLogger(std::shared_ptr<spdlog::sinks::sink> sink) {
  auto logger = std::make_shared<spdlog::logger>("belay", std::move(sink));
  logger->set_pattern("%v");
  logger->set_level(spdlog::level::trace);
  logger->flush_on(spdlog::level::trace);  // the last line before a crash is the one that is wanted
  return logger;
}

std::mutex g_mutex;

// Call with g_mutex held. Never destroyed: threads may log while statics die.
std::shared_ptr<const Sink>& CurrentSink() {
  static auto* sink = new std::shared_ptr<const Sink>(std::make_shared<const Sink>(Sink{
      "belay", false, ChosenLevel(LogLevel::kInfo), MakeLogger(std::make_shared<spdlog::sinks::stderr_sink_mt>())}));
  return *sink;
}

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

// As it is, or quoted where it holds spaces, quotes or control characters, so that a line stays a line.
std::string TextValue(const std::string& value) {
  const bool plain = !value.empty() && value.find_first_of(" \"=\\") == std::string::npos &&
                     std::none_of(value.begin(), value.end(), [](unsigned char c) { return c < 0x20 || c == 0x7F; });
  if (plain) return value;
  return nlohmann::json(value).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string TextLine(const Sink& sink, std::string_view time, LogLevel level, std::string_view event,
                     std::initializer_list<LogField> fields) {
  std::string line = Str(time, ' ', LevelName(level));
  line.append(8 - std::min<std::size_t>(LevelName(level).size(), 7), ' ');
  line += Str(sink.program, ' ', event);
  for (const LogField& field : fields) {
    line += Str(' ', field.key, '=');
    if (const auto* text = std::get_if<std::string>(&field.value)) line += TextValue(*text);
    if (const auto* flag = std::get_if<bool>(&field.value)) line += *flag ? "true" : "false";
    if (const auto* integer = std::get_if<std::int64_t>(&field.value)) line += std::to_string(*integer);
    if (const auto* real = std::get_if<double>(&field.value)) line += Number(*real);
  }
  return line;
}

std::string JsonLine(const Sink& sink, std::string_view time, LogLevel level, std::string_view event,
                     std::initializer_list<LogField> fields) {
  nlohmann::ordered_json line;
  line["time"] = time;
  line["level"] = LevelName(level);
  line["program"] = sink.program;
  line["event"] = event;
  for (const LogField& field : fields) {
    std::visit([&](const auto& value) { line[std::string(field.key)] = value; }, field.value);
  }
  return line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  std::shared_ptr<const Sink> sink;
  {
    const std::scoped_lock lock(g_mutex);
    sink = CurrentSink();
  }
  if (level < sink->level) return;
  const std::string time = Rfc3339(SystemClock().WallNow());
  const std::string line =
      sink->json ? JsonLine(*sink, time, level, event, fields) : TextLine(*sink, time, level, event, fields);
  sink->logger->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
}

Status StartLogging(const LogOptions& options) {
  Sink sink{options.program, options.json, ChosenLevel(options.level), nullptr};
  try {
    if (options.path.empty()) {
      sink.logger = MakeLogger(std::make_shared<spdlog::sinks::stderr_sink_mt>());
    } else {
      sink.logger =
          options.bytes_max == 0
              ? MakeLogger(std::make_shared<spdlog::sinks::basic_file_sink_mt>(options.path))
              : MakeLogger(std::make_shared<spdlog::sinks::rotating_file_sink_mt>(options.path, options.bytes_max, 1));
    }
  } catch (const spdlog::spdlog_ex& error) {
    return Fail(Code::kIo, "cannot open the log ", options.path, ": ", error.what());
  }
  const std::scoped_lock lock(g_mutex);
  CurrentSink() = std::make_shared<const Sink>(std::move(sink));
  return {};
}

}  // namespace belay::base
