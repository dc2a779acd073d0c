#include "launcher/run/last_run.h"

#include <charconv>
#include <nlohmann/json.hpp>

#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using nlohmann::json;

constexpr std::uint64_t kBytesMax = 64 * 1024;

std::string LastRunFile(const JobFolder& folder) { return folder.path + "/last.json"; }

}  // namespace

std::string EncodeLastRun(const LastRun& last) {
  const json document = {
      {"schema_version", 1}, {"generation", base::Str(last.generation)}, {"run_directory", last.run_directory}};
  return document.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

std::optional<LastRun> DecodeLastRun(const std::string& text) {
  const json document = json::parse(text, nullptr, false);
  if (!document.is_object()) return std::nullopt;
  const auto word = [&](const char* key) {
    const auto it = document.find(key);
    return it != document.end() && it->is_string() ? it->get<std::string>() : std::string();
  };
  const std::string generation = word("generation");
  std::uint64_t number = 0;
  const char* const end = generation.data() + generation.size();
  const auto [stop, error] = std::from_chars(generation.data(), end, number);
  if (error != std::errc() || stop != end || !word("run_directory").starts_with('/')) return std::nullopt;
  return LastRun{base::Generation(number), word("run_directory")};
}

base::Status WriteLastRun(base::FileSystem& files, const JobFolder& folder, const LastRun& last) {
  return base::WriteFileDurably(files, LastRunFile(folder), EncodeLastRun(last));
}

JobFolder FollowLastRun(base::FileSystem& files, JobFolder folder) {
  const auto text = base::ReadWholeFile(files, LastRunFile(folder), kBytesMax);
  if (!text) return folder;
  const std::optional<LastRun> last = DecodeLastRun(*text);
  if (!last || !base::Exists(files, last->run_directory)) return folder;
  JobFolder there = folder;
  there.attempts_path = last->run_directory.substr(0, last->run_directory.rfind('/'));
  // Only what a launcher writes: <attempts>/gen-<g>.
  return there.AttemptPath(last->generation) == last->run_directory ? there : folder;
}

}  // namespace belay::launcher
