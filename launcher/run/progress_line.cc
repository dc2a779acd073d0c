#include "launcher/run/progress_line.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "runtime/base/control_page.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Str;

template <typename... Args>
std::string Print(const char* format, Args... args) {
  char text[64];
  std::snprintf(text, sizeof text, format, args...);
  return text;
}

std::string_view PhaseWord(std::uint32_t phase) {
  switch (static_cast<base::Phase>(phase)) {
    case base::Phase::kStart:
    case base::Phase::kInit:
      return "starting";
    case base::Phase::kLoad:
      return "loading the checkpoint";
    case base::Phase::kStep:
      return "training";
    case base::Phase::kSave:
      return "waiting for the commit";
    case base::Phase::kIdle:
      return "validating";
    case base::Phase::kDone:
      return "done";
  }
  return "";
}

}  // namespace

void StepRate::Observe(std::int64_t step, base::SteadyTime now) {
  if (!last_ || step < last_->step) {
    last_ = {step, now};
    rate_.reset();
    return;
  }
  const double seconds = std::chrono::duration<double>(now - last_->at).count();
  if (step == last_->step || seconds < 0.2) return;
  const double rate = static_cast<double>(step - last_->step) / seconds;
  const double weight = rate_ ? 1 - std::exp(-seconds / 10.0) : 1;
  rate_ = rate_.value_or(0) * (1 - weight) + rate * weight;
  last_ = {step, now};
}

std::optional<std::int64_t> CommonStep(const SupervisorState& state) {
  std::optional<std::int64_t> step;
  for (const RankRecord& rank : state.ranks) {
    if (rank.progress.attached) step = std::min(step.value_or(rank.progress.step), rank.progress.step);
  }
  return step;
}

std::string ProgressLine(const SupervisorState& state, std::optional<double> steps_per_second, int columns) {
  std::string line;
  const auto add = [&](const std::string& word) { line += (line.empty() ? "" : "  ") + word; };
  switch (state.job) {
    case JobState::kRenewing:
      add("asking belayd for a generation");
      break;
    case JobState::kStarting:
      add(Str("starting ", state.ranks.size(), state.ranks.size() == 1 ? " rank" : " ranks"));
      break;
    case JobState::kStopping:
      add("stopping");
      break;
    case JobState::kRunning:
      break;
    case JobState::kDone:
      return "";
    default:
      add(std::string(Name(state.job)));
      break;
  }
  const std::optional<std::int64_t> step = CommonStep(state);
  if (step) {
    const RankProgress& shown = state.ranks.front().progress;  // rank 0 speaks for the run
    add(shown.total_steps > 0 ? Str("step ", *step, "/", shown.total_steps) : Str("step ", *step));
    const auto phase = static_cast<base::Phase>(shown.phase);
    if (phase != base::Phase::kStep && phase != base::Phase::kDone) add(std::string(PhaseWord(shown.phase)));
    if (std::isfinite(shown.loss)) add(Print("loss %.4f", shown.loss));
    if (std::isfinite(shown.samples_per_second)) add(HumanCount(shown.samples_per_second) + " samples/s");
    if (std::isfinite(shown.tokens_per_second) && shown.tokens_per_second > 0)
      add(HumanCount(shown.tokens_per_second) + " tokens/s");
    if (std::isfinite(shown.stall_ms)) add(Print("stall %.1f ms", shown.stall_ms));
    // Programs that do not measure it say 0.
    if (std::isfinite(shown.data_wait_ms) && shown.data_wait_ms > 0) add(Print("wait %.1f ms", shown.data_wait_ms));
    if (const std::int64_t committed = state.CommittedStep(); committed >= 0) add(Str("saved ", committed));
    if (shown.total_steps > *step && steps_per_second && *steps_per_second > 0) {
      add("ETA " + HumanDuration(static_cast<double>(shown.total_steps - *step) / *steps_per_second));
    }
  } else if (state.job == JobState::kRunning) {
    const auto alive =
        std::ranges::count_if(state.ranks, [](const RankRecord& r) { return r.state == RankState::kAlive; });
    add(Str(alive, alive == 1 ? " rank runs" : " ranks run"));
  }
  if (columns > 1 && line.size() >= static_cast<std::size_t>(columns))
    line.resize(static_cast<std::size_t>(columns) - 1);
  return line;
}

std::string HumanDuration(double seconds) {
  const auto s = static_cast<std::int64_t>(seconds + 0.5);
  if (s < 60) return Str(s, "s");
  if (s < 3600) return Print("%lldm%02llds", static_cast<long long>(s / 60), static_cast<long long>(s % 60));
  if (s < 86400) return Print("%lldh%02lldm", static_cast<long long>(s / 3600), static_cast<long long>(s / 60 % 60));
  return Print("%lldd%02lldh", static_cast<long long>(s / 86400), static_cast<long long>(s / 3600 % 24));
}

std::string HumanCount(double value) {
  if (value < 10) return Print("%.1f", value);
  if (value < 10e3) return Print("%.0f", value);
  if (value < 10e6) return Print("%.0fk", value / 1e3);
  return Print("%.1fM", value / 1e6);
}

}  // namespace belay::launcher
