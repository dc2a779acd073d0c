// What happens next: events by simulated time, in one thread. All order and every delay comes from the seed.
//
// An event may run others inside itself (RunNext from within: a disk operation during which the rest of the world goes
// on). What must not happen there, like the end of a program that is on the stack, waits for AtTop.
#pragma once

#include <coroutine>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>

#include "checkpoint/daemon/worker_pool.h"
#include "runtime/base/rng.h"
#include "runtime/base/sim/sim_clock.h"

namespace belay::checkpoint::sim {

class Scheduler {
 public:
  using Event = std::function<void()>;
  Scheduler(std::uint64_t seed, base::SimClock& clock) : rng_(seed), clock_(clock) {}

  void After(base::Duration delay, Event event);
  void AtTop(Event event) { at_top_.push_back(std::move(event)); }
  // Runs the next event; time jumps to it. False if there is none, or none so soon.
  bool RunNext(base::Duration within = base::Duration::max());
  // Called after every event, nested ones too.
  void OnEvent(std::function<void()> look) { look_ = std::move(look); }

  base::Rng& rng() { return rng_; }
  base::SteadyTime now() { return clock_.Now(); }
  int depth() const { return depth_; }
  std::uint64_t events() const { return count_; }
  // Of all that has happened: when, and how often the generator had been asked. Equal in equal worlds.
  std::uint64_t digest() const { return digest_; }
  // Uniform between zero and `most`.
  base::Duration Some(base::Duration most);
  bool Chance(double probability) { return rng_.Uniform() < probability; }

  // co_await scheduler.Sleep(d)
  class Sleeper {
   public:
    Sleeper(Scheduler& scheduler, base::Duration duration) : scheduler_(scheduler), duration_(duration) {}
    Sleeper(const Sleeper&) = delete;
    Sleeper& operator=(const Sleeper&) = delete;
    ~Sleeper() { *awake_ = false; }
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> sleeping) {
      scheduler_.After(duration_, [sleeping, there = awake_] {
        if (*there) sleeping.resume();
      });
    }
    void await_resume() const {}

   private:
    Scheduler& scheduler_;
    const base::Duration duration_;
    const std::shared_ptr<bool> awake_ = std::make_shared<bool>(true);
  };
  Sleeper Sleep(base::Duration duration) { return {*this, duration}; }

 private:
  base::Rng rng_;
  base::SimClock& clock_;
  std::map<std::pair<base::SteadyTime, std::uint64_t>, Event> events_;
  std::deque<Event> at_top_;
  std::function<void()> look_;
  std::uint64_t count_ = 0;
  std::uint64_t next_ = 0;
  std::uint64_t digest_ = 0;
  int depth_ = 0;
};

// A pool of `threads` workers whose tasks begin in order, each after a delay, and may run inside one another.
class Lane final : public Executor {
 public:
  Lane(Scheduler& scheduler, int threads, base::Duration delay_max);
  ~Lane() override;
  void Submit(Task task) override;

 private:
  struct State;
  static void Arm(const std::shared_ptr<State>& state);
  const std::shared_ptr<State> state_;
};

}  // namespace belay::checkpoint::sim
