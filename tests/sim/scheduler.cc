#include "tests/sim/scheduler.h"

#include <algorithm>

namespace belay::checkpoint::sim {

void Scheduler::After(base::Duration delay, Event event) {
  events_.emplace(std::pair(clock_.Now() + std::max(delay, base::Duration::zero()), next_++), std::move(event));
}

bool Scheduler::RunNext(base::Duration within) {
  if (events_.empty()) return false;
  const auto first = events_.begin();
  const base::SteadyTime time = first->first.first;
  if (time - clock_.Now() > within) return false;
  const Event event = std::move(first->second);
  events_.erase(first);
  clock_.Advance(time - clock_.Now());
  ++count_;
  base::Rng peek = rng_;
  digest_ =
      base::Mix64(digest_ ^ base::Mix64(static_cast<std::uint64_t>(time.time_since_epoch().count())) ^ peek.Next());
  ++depth_;
  event();
  --depth_;
  while (depth_ == 0 && !at_top_.empty()) {
    const Event top = std::move(at_top_.front());
    at_top_.pop_front();
    top();
  }
  if (look_) look_();
  return true;
}

base::Duration Scheduler::Some(base::Duration most) {
  return base::Duration(static_cast<base::Duration::rep>(rng_.Below(static_cast<std::uint64_t>(most.count()) + 1)));
}

struct Lane::State {
  Scheduler& scheduler;
  const int threads;
  const base::Duration delay_max;
  std::deque<Task> tasks;
  int busy = 0;  // running, or about to begin
  bool ended = false;
};

Lane::Lane(Scheduler& scheduler, int threads, base::Duration delay_max)
    : state_(std::make_shared<State>(State{scheduler, threads, delay_max, {}, 0, false})) {}

Lane::~Lane() { state_->ended = true; }

void Lane::Submit(Task task) {
  state_->tasks.push_back(std::move(task));
  Arm(state_);
}

void Lane::Arm(const std::shared_ptr<State>& state) {
  if (state->tasks.empty() || state->busy == state->threads) return;
  ++state->busy;
  state->scheduler.After(state->scheduler.Some(state->delay_max), [state] {
    if (state->ended || state->tasks.empty()) {
      --state->busy;
      return;
    }
    const Task task = std::move(state->tasks.front());
    state->tasks.pop_front();
    task();
    --state->busy;
    if (!state->ended) Arm(state);
  });
}

}  // namespace belay::checkpoint::sim
