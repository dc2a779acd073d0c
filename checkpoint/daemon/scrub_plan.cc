#include "checkpoint/daemon/scrub_plan.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "checkpoint/daemon/recurrence.h"

namespace belay::checkpoint {

using nlohmann::json;

std::string EncodeScrubProgress(const ScrubProgress& progress) {
  const ScrubPosition& at = progress.position;
  return json{{"under_way", progress.under_way},
              {"began", progress.began_unix},
              {"ended", progress.ended_unix},
              {"project", at.job.project},
              {"job", at.job.job},
              {"generation", at.id.generation.value()},
              {"step", at.id.step.value()},
              {"file", at.file},
              {"finished", at.is_finished},
              {"files", progress.files},
              {"bytes", progress.bytes},
              {"damaged", progress.damaged},
              {"unreadable", progress.unreadable}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

ScrubProgress DecodeScrubProgress(std::string_view text) {
  try {
    const json fields = json::parse(text);
    ScrubProgress progress;
    progress.under_way = fields.at("under_way").get<bool>();
    progress.began_unix = fields.at("began").get<std::int64_t>();
    progress.ended_unix = fields.at("ended").get<std::int64_t>();
    progress.position = {{fields.at("project").get<std::string>(), fields.at("job").get<std::string>()},
                         {base::Generation(fields.at("generation").get<std::uint64_t>()),
                          base::Step(fields.at("step").get<std::int64_t>())},
                         fields.at("file").get<std::string>(),
                         fields.at("finished").get<bool>()};
    progress.files = fields.at("files").get<std::uint64_t>();
    progress.bytes = fields.at("bytes").get<std::uint64_t>();
    progress.damaged = fields.at("damaged").get<std::uint64_t>();
    progress.unreadable = fields.at("unreadable").get<std::uint64_t>();
    return progress;
  } catch (const json::exception&) {
    return {};
  }
}

bool IsDamage(const base::Error& error) { return base::Describe(error.code).exit_status == base::ExitStatus::kBadData; }

bool ScrubMustPause(const commit::State& state) {
  const bool saving = std::any_of(state.jobs.begin(), state.jobs.end(),
                                  [](const auto& entry) { return !entry.second.snapshots.empty(); });
  return saving || std::any_of(state.connections.begin(), state.connections.end(),
                               [](const auto& entry) { return !entry.second.reading.empty(); });
}

ScrubPlan::ScrubPlan(const ScrubOptions& options, ScrubProgress progress, base::SteadyTime now)
    : options_(options), progress_(std::move(progress)), start_(now) {}

bool ScrubPlan::PassIsDue(base::WallTime wall) const { return IsDueAgain(progress_.began_unix, options_.every, wall); }

std::optional<ScrubOrder> ScrubPlan::After(const commit::State& state) const {
  const ScrubPosition& at = progress_.position;
  for (auto job = state.jobs.lower_bound(at.job); job != state.jobs.end(); ++job) {
    for (const auto& [id, committed] : job->second.committed) {
      if (committed.removing || !committed.info.quarantine.empty()) continue;
      const bool is_same = job->first == at.job && id == at.id;
      if (is_same && !at.is_finished) return ScrubOrder{job->first, id, at.file};
      if (is_same || (job->first == at.job && id < at.id)) continue;
      return ScrubOrder{job->first, id, {}};
    }
  }
  return std::nullopt;
}

std::optional<ScrubOrder> ScrubPlan::Next(const commit::State& state, base::SteadyTime now, base::WallTime wall) {
  if (is_reading_ || options_.bytes_per_second == 0 || now < start_ + options_.first_after) return std::nullopt;
  if (state.stopping || ScrubMustPause(state)) return std::nullopt;
  if (!progress_.under_way) {
    if (!PassIsDue(wall)) return std::nullopt;
    const std::int64_t ended = progress_.ended_unix;
    progress_ = ScrubProgress{};
    progress_.under_way = true;
    progress_.began_unix = UnixSeconds(wall);
    progress_.ended_unix = ended;
  }
  auto order = After(state);
  is_reading_ = order.has_value();
  if (!order) {
    progress_.under_way = false;
    progress_.ended_unix = UnixSeconds(wall);
  }
  return order;
}

std::optional<commit::DamageFound> ScrubPlan::Finished(const ScrubResult& result) {
  is_reading_ = false;
  if (result.is_given_up) return std::nullopt;
  progress_.position = {result.order.job, result.order.id, result.file, result.file.empty()};
  progress_.bytes += result.bytes;
  if (!result.file.empty()) ++progress_.files;
  if (!result.error) return std::nullopt;
  const bool damage = IsDamage(*result.error);
  ++(damage ? progress_.damaged : progress_.unreadable);
  if (!damage) return std::nullopt;
  return commit::DamageFound{result.order.job, result.order.id, result.file, result.error->Text()};
}

std::optional<base::SteadyTime> ScrubPlan::Wake(base::SteadyTime now, base::WallTime wall) const {
  if (options_.bytes_per_second == 0 || is_reading_) return std::nullopt;
  const base::SteadyTime earliest = start_ + options_.first_after;
  if (now < earliest) return earliest;
  // While somebody saves or restores, what ends it is an event.
  if (progress_.under_way || PassIsDue(wall)) return std::nullopt;
  const auto left = std::chrono::seconds(progress_.began_unix - UnixSeconds(wall)) + options_.every;
  return now + std::min<base::Duration>(left, kLookAgain);
}

}  // namespace belay::checkpoint
