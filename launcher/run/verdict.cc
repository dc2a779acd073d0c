#include "launcher/run/verdict.h"

#include <cmath>
#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>

#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;
using nlohmann::json;

json StepOrNull(std::int64_t step) { return step >= 0 ? json(Str(step)) : json(nullptr); }

json RankJson(const RankRecord& rank) {
  json j = {{"rank", rank.rank},
            {"local_rank", rank.local_rank},
            {"host", rank.host},
            {"pid", rank.pid},
            {"state", Name(rank.state)},
            {"attached", rank.progress.attached},
            {"step", Str(rank.progress.step)},
            {"log", rank.log_path},
            {"killed_by_belay", rank.killed_by_us}};
  if (rank.exit) {
    j["status"] = rank.exit->status;
    j["signal"] = rank.exit->signal != 0 ? json(SignalName(rank.exit->signal)) : json(nullptr);
  }
  return j;
}

}  // namespace

std::string Rfc3339(base::WallTime time) {
  const auto millis = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  const std::time_t seconds = static_cast<std::time_t>(millis / 1000);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[40];
  const std::size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + size, sizeof text - size, ".%03dZ", static_cast<int>(millis % 1000));
  return text;
}

std::string EncodeVerdict(const SupervisorState& state, const VerdictFacts& facts) {
  json document = {
      {"schema_version", 1},
      {"project", facts.project},
      {"job", facts.job},
      {"generation", Str(state.generation)},
      {"outcome", facts.restarts ? "restarting" : Name(state.verdict.outcome)},
      {"exit_status", facts.restarts ? json(nullptr) : json(state.verdict.exit_status)},
      {"reason", facts.restarts && state.failure ? state.failure->what : state.verdict.reason},
      {"run_again", !facts.restarts && state.verdict.outcome == Outcome::kPreempted},
      {"world_size", state.config.world_size},
      {"restarts", state.restarts},
      {"started", Rfc3339(facts.started)},
      {"ended", Rfc3339(facts.ended)},
      {"seconds", std::chrono::duration<double>(facts.ended - facts.started).count()},
      {"resumed_step", state.resume_step ? StepOrNull(*state.resume_step) : json(nullptr)},
      {"committed_step", StepOrNull(facts.newest_step.value_or(state.CommittedStep()))},
      {"stop_source", state.stop_requested ? json(state.stop_source) : json(nullptr)},
      {"run_directory", facts.run_directory},
      {"data_dir", facts.data_dir},
      {"socket", facts.socket},
      {"program", facts.program},
      {"resume_command", facts.resume_command},
      {"failure", nullptr},
  };
  if (state.failure) {
    const FailureReport& failure = *state.failure;
    json f = {{"class", Name(failure.failure_class)},
              {"what", failure.what},
              {"hint", failure.hint},
              {"status", failure.status},
              {"first", failure.first.rank >= 0 ? RankJson(failure.first) : json(nullptr)},
              {"last_lines", failure.first.exit ? json(failure.first.exit->last_lines) : json::array()}};
    document["failure"] = std::move(f);
  }
  document["ranks"] = json::array();
  for (const RankRecord& rank : state.ranks) document["ranks"].push_back(RankJson(rank));
  return document.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

std::string EncodeError(const base::Error& error) {
  static constexpr const char* kRetry[] = {"retry", "restart", "do_not_retry", "outcome_unknown"};
  const base::CodeInfo& info = base::Describe(error.code);
  const json document = {{"schema_version", 1},
                         {"error",
                          {{"code", static_cast<int>(error.code)},
                           {"name", info.name},
                           {"message", error.Text()},
                           {"exit_status", static_cast<int>(info.exit_status)},
                           {"retry", kRetry[static_cast<int>(info.retry)]}}}};
  return document.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace belay::launcher
