#include "launcher/run/run_directory.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::Fail;
using base::Str;
using nlohmann::json;

constexpr std::uint64_t kRecordBytesMax = 64 * 1024;

}  // namespace

std::string JobFolder::AttemptPath(base::Generation generation) const {
  return Str(attempts_path, "/gen-", generation);
}

std::string AttemptFolder::RankLog(std::int32_t rank) const {
  char name[32];
  std::snprintf(name, sizeof name, "/rank-%05d.log", rank);
  return path + name;
}

std::string RunsRoot(const std::string& data_dir) { return data_dir + "/.runs"; }

JobFolder MakeJobFolder(const std::string& data_dir, const std::string& project, const std::string& job,
                        const std::string& log_dir) {
  JobFolder folder;
  folder.path = Str(RunsRoot(data_dir), "/", project, "/", job);
  folder.attempts_path = log_dir.empty() ? folder.path : log_dir;
  return folder;
}

base::Status CheckName(const std::string& what, const std::string& name) {
  const bool plain =
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == std::string::npos;
  if (name.empty() || name.size() > 128 || name[0] == '.' || name[0] == '-' || !plain) {
    return Fail(Code::kInvalidArgument, what, " '", name,
                "' is no name: 1 to 128 letters, digits, '.', '_' or '-', beginning with a letter, digit or '_'");
  }
  return {};
}

std::string EncodeLauncherRecord(const LauncherRecord& record) {
  const json document = {{"schema_version", 1},
                         {"pid", record.pid},
                         {"host", record.host},
                         {"socket", record.socket},
                         {"generation", Str(record.generation)},
                         {"run_directory", record.run_directory},
                         {"started", record.started}};
  return document.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

base::Result<LauncherRecord> DecodeLauncherRecord(const std::string& text) {
  const json document = json::parse(text, nullptr, false);
  const auto word = [&](const char* key) {
    return document.contains(key) && document[key].is_string() ? document[key].get<std::string>() : std::string();
  };
  if (!document.is_object() || !document.contains("pid") || !document["pid"].is_number_integer() ||
      word("socket").empty()) {
    return Fail(Code::kCorrupt, "launcher.json is damaged; remove it if no run of this job is alive");
  }
  LauncherRecord record;
  record.pid = document["pid"].get<std::int32_t>();
  record.host = word("host");
  record.socket = word("socket");
  const std::string generation = word("generation");
  std::uint64_t number = 0;
  std::from_chars(generation.data(), generation.data() + generation.size(), number);
  record.generation = base::Generation(number);
  record.run_directory = word("run_directory");
  record.started = word("started");
  return record;
}

base::Result<LauncherRecord> ReadLauncherRecord(base::FileSystem& files, const JobFolder& folder) {
  BELAY_ASSIGN(const std::string text, base::ReadWholeFile(files, folder.LauncherFile(), kRecordBytesMax));
  return DecodeLauncherRecord(text);
}

std::vector<base::Generation> ListAttempts(base::FileSystem& files, const JobFolder& folder) {
  std::vector<base::Generation> generations;
  const auto names = files.List(folder.attempts_path);
  if (!names) return generations;
  for (const std::string& name : *names) {
    if (!name.starts_with("gen-")) continue;
    std::uint64_t number = 0;
    const char* const end = name.data() + name.size();
    const auto [stop, error] = std::from_chars(name.data() + 4, end, number);
    if (error == std::errc() && stop == end) generations.emplace_back(number);
  }
  std::ranges::sort(generations);
  return generations;
}

std::vector<JobName> ListJobs(base::FileSystem& files, const std::string& data_dir) {
  std::vector<JobName> jobs;
  const std::string root = RunsRoot(data_dir);
  const auto projects = files.List(root);
  if (!projects) return jobs;
  for (const std::string& project : *projects) {
    const auto names = files.List(root + "/" + project);
    if (!names) continue;
    for (const std::string& job : *names) jobs.push_back({project, job});
  }
  return jobs;
}

}  // namespace belay::launcher
