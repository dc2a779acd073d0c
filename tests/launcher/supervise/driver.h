// Drives a supervisor by hand, for the tests of single passages.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "launcher/supervise/supervisor.h"

namespace belay::launcher {

// Keeps what it did.
class Driver {
 public:
  explicit Driver(std::int32_t world_size = 2, std::int32_t restarts_max = 3) {
    config_.world_size = world_size;
    config_.restarts_max = restarts_max;
    Take(Begin(config_, now_));
  }
  void Feed(const Event& event) { Take(Step(std::move(state_), event, now_)); }
  void Wait(base::Duration duration) {
    now_ += duration;
    Feed(event::Tick{});
  }
  void GrantNext(std::optional<std::int64_t> newest = std::nullopt) {
    Feed(event::Granted{base::Generation(++generation_), newest});
  }
  void Register(std::int32_t rank) { Feed(event::Registered{rank, rank, "host", 100 + rank, "log"}); }
  void RunAll(std::optional<std::int64_t> newest = std::nullopt) {
    GrantNext(newest);
    for (std::int32_t r = 0; r < config_.world_size; ++r) Register(r);
    ASSERT_EQ(state_.job, JobState::kRunning);
    for (std::int32_t r = 0; r < config_.world_size; ++r) Feed(event::Started{r, 200 + r});
  }
  void Attach(std::int32_t rank, std::int64_t step, std::int64_t committed = -1, std::uint32_t outcome = 0) {
    Feed(event::Progress{
        rank, {.attached = true, .phase = 3, .step = step, .committed_step = committed, .outcome = outcome}});
  }
  void Exit(std::int32_t rank, int status, int signal = 0) {
    Feed(event::Exited{rank, {.status = status, .signal = signal}, now_});
  }
  // mpirun goes, everything is cleaned.
  void Down() {
    if (state_.job == JobState::kReleasing) Feed(event::MpirunExited{0, 0});
    ASSERT_EQ(state_.job, JobState::kCleaning);
    Feed(event::CleanedUp{});
  }
  // Programs that do not attach are taken for plain ones from then on.
  void GrowOld() { now_ += config_.attach_patience; }
  int Sigterms() const {
    return static_cast<int>(std::ranges::count_if(actions_, [](const Action& a) {
      const auto* stop = std::get_if<action::StopRank>(&a);
      return stop != nullptr && stop->terminate;
    }));
  }
  std::vector<std::string> Reports() const {
    std::vector<std::string> next;
    for (const Action& a : actions_) {
      if (const auto* report = std::get_if<action::Report>(&a)) next.push_back(report->next);
    }
    return next;
  }
  template <typename A>
  int Count() const {
    return static_cast<int>(
        std::ranges::count_if(actions_, [](const Action& a) { return std::holds_alternative<A>(a); }));
  }
  const Verdict& verdict() const { return state_.verdict; }
  const SupervisorState& state() const { return state_; }
  SupervisorConfig& config() { return config_; }

  void Take(StepResult result) {
    state_ = std::move(result.state);
    actions_.insert(actions_.end(), result.actions.begin(), result.actions.end());
  }
  std::vector<Action> actions_;
  SupervisorConfig config_;
  SupervisorState state_;
  base::SteadyTime now_{std::chrono::hours(1)};
  std::uint64_t generation_ = 0;
};

}  // namespace belay::launcher
