#include "tests/sim/simulation.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "tests/sim/chaos.h"
#include "tests/sim/launcher.h"

namespace belay::checkpoint::sim {

using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

constexpr base::Duration kDisturbed = milliseconds(1500);
constexpr base::Duration kSettling = seconds(3);
constexpr base::Duration kCalmMax = seconds(30);
constexpr std::int64_t kCalmCommitsMin = 3;

// Asks for the newest and restores it from disk.
class Reader final : public Program {
 public:
  Reader(World& world, commit::JobKey job) : Program(world), job_(std::move(job)) {}

 private:
  void Died() override { line_.reset(); }
  Task<> Life() override {
    const auto certain = world_.model.NewestCertain(job_);
    wire::Request request;
    SetKey(job_, *request.mutable_restore_points()->mutable_key());
    line_ = co_await Connect();
    Outcome answer = co_await line_->Ask(request);
    while (!answer && answer.error().code == base::Code::kUnavailable) {  // a private one was just leaving
      line_ = co_await Connect();
      answer = co_await line_->Ask(request);
    }
    if (!answer) {
      world_.Violated("nobody disturbs, and restore points cannot be had: " + answer.error().Text());
      co_return;
    }
    const wire::RestorePointList list = answer->response.restore_point_list();
    world_.model.CheckPoints(job_, list, certain);
    for (const wire::RestorePoint& point : list.points()) {
      const commit::CheckpointId id{base::Generation(point.generation()), base::Step(point.step())};
      while (world_.scheduler.depth() > 1) co_await world_.scheduler.Sleep(milliseconds(1));
      const Restored restored = Restore(world_, line_, job_, id, false);
      if (restored.whole) co_return;
      if (!world_.model.Of(job_, id).damaged) {
        world_.Violated(base::Str("nobody disturbs, and ", id, " does not restore: ", restored.why_not));
      }
    }
  }

  const commit::JobKey job_;
  std::shared_ptr<Line> line_;
};

class Simulation {
 public:
  Simulation(std::uint64_t seed, Plants plants, Coverage& coverage, bool tracing);
  Simulated Run();

 private:
  bool Well() const { return world_.violation().empty(); }
  void StartPrograms(bool calm);
  void Pass(base::Duration duration, const std::function<bool()>& enough = nullptr);
  void Look();
  // After the faults.
  void SaveAgain();
  void LookForLeaks();
  void RestartAndRead(bool failed_may_stay);

  World world_;
  std::vector<JobSetup> jobs_;
  std::vector<std::shared_ptr<Launcher>> launchers_;
  std::vector<std::shared_ptr<Program>> others_;  // and who lived before a power loss
  bool power_lost_ = false;
};

Simulation::Simulation(std::uint64_t seed, Plants plants, Coverage& coverage, bool tracing)
    : world_(seed, plants, coverage, tracing) {
  base::Rng& rng = world_.scheduler.rng();
  commit::CoreConfig core;
  core.memory_budget_bytes = rng.Below(4) == 0 ? 150'000 : 1U << 30;
  core.disk_reserve_bytes = 20'000;
  core.is_private = rng.Below(2) == 0;
  core.linger = milliseconds(50);
  core.first_connection_wait = seconds(1);
  world_.machine =
      std::make_unique<Machine>(Machine::Parts{world_.scheduler, world_.clock, world_.faults, world_.files, world_.disk,
                                               world_.index, world_.network},
                                core, world_.also,
                                Machine::Handlers{[this] {
                                                    Program::KillAll(world_);
                                                    power_lost_ = true;
                                                  },
                                                  [this](const std::string& what) { world_.Trace(what); }});
  const std::uint64_t jobs = 1 + rng.Below(2);
  for (std::uint64_t i = 0; i < jobs; ++i) {
    JobSetup job;
    job.key = {"vision", base::Str("job", i)};
    job.keep_last = static_cast<std::uint32_t>(1 + rng.Below(3));
    job.keep_every = rng.Below(2) == 0 ? static_cast<std::uint32_t>(3 + rng.Below(10)) : 0;
    job.save_every = static_cast<std::int64_t>(1 + rng.Below(3));
    jobs_.push_back(job);
    world_.model.Of(job.key).keep_last = job.keep_last;
    world_.model.Of(job.key).keep_every = job.keep_every;
  }
}

Simulated Simulation::Run() {
  world_.machine->Start();
  world_.machine->Interleave(true);
  StartPrograms(false);
  Chaos chaos(world_, launchers_);
  chaos.Begin();
  Pass(kDisturbed);
  chaos.End();
  world_.calm = true;
  Program::KillAll(world_);
  Pass(kSettling);
  if (Well()) SaveAgain();
  if (Well()) LookForLeaks();
  if (Well()) RestartAndRead(chaos.disturbs_disk());
  return {world_.violation(), world_.scheduler.digest()};
}

void Simulation::StartPrograms(bool calm) {
  for (auto& launcher : std::exchange(launchers_, {})) others_.push_back(std::move(launcher));
  for (const JobSetup& job : jobs_) {
    launchers_.push_back(std::make_shared<Launcher>(world_, job, calm));
    launchers_.back()->Run();
  }
  if (calm) return;
  others_.push_back(std::make_shared<Visitor>(world_, jobs_));
  others_.back()->Run();
}

// Lets time go by, looking at what happens after every event.
void Simulation::Pass(base::Duration duration, const std::function<bool()>& enough) {
  const auto over = std::make_shared<bool>(false);
  world_.scheduler.After(duration, [over] { *over = true; });
  while (!*over && Well() && !(enough && enough()) && world_.scheduler.RunNext()) {
    ++world_.coverage.events;
    Look();
  }
}

void Simulation::Look() {
  for (const std::string& directory : world_.disk.TakeTouched()) world_.inspector.Look(directory);
  if (!std::exchange(power_lost_, false)) return;
  world_.inspector.LookEverywhere();
  // The machine comes back, and the batch system begins its jobs anew.
  if (!world_.calm) StartPrograms(false);
}

void Simulation::SaveAgain() {
  StartPrograms(true);
  const auto all_done = [this] {
    return std::all_of(launchers_.begin(), launchers_.end(),
                       [](const auto& one) { return one->run() != nullptr && one->run()->finished; });
  };
  Pass(kCalmMax, all_done);
  if (!Well()) return;
  for (const auto& launcher : launchers_) {
    const RunOf* run = launcher->run();
    if (run == nullptr || !run->finished) return world_.Violated("nobody disturbs, and a run does not come to its end");
    for (const std::int64_t committed : run->committed) {
      if (committed >= kCalmCommitsMin) continue;
      return world_.Violated(
          base::Str("nobody disturbs, and of ", run->saves, " saves only ", committed, " are committed"));
    }
  }
}

void Simulation::LookForLeaks() {
  Program::KillAll(world_);
  Pass(seconds(1));
  if (!Well() || !world_.machine->up()) return;
  const commit::State& state = world_.machine->state();
  const auto leaks = [this](bool leaked, std::string_view what) {
    if (leaked) world_.Violated(base::Str("everybody has gone, and the daemon still has ", what));
  };
  leaks(!state.connections.empty(), "connections");
  leaks(!state.waiters.empty(), "waiters");
  leaks(world_.machine->staging_count() != 0, "staging memory");
  for (const auto& [key, job] : state.jobs) {
    leaks(!job.snapshots.empty() || job.beginning || job.launcher || !job.attached.empty(), "something under way");
    leaks(!job.held_begins.empty() || !job.remove_waiters.empty(), "requests to answer");
    leaks(!job.staging.empty(), "slots of staging memory");
    for (const auto& [id, committed] : job.committed) leaks(committed.removing, "a removal");
  }
}

void Simulation::RestartAndRead(bool failed_may_stay) {
  world_.machine->Stop();
  Pass(seconds(1));
  world_.inspector.LookEverywhere();
  world_.inspector.LookForLeftovers(failed_may_stay);
  for (const JobSetup& job : jobs_) {
    others_.push_back(std::make_shared<Reader>(world_, job.key));
    others_.back()->Run();
  }
  Pass(seconds(1));
}

}  // namespace

Simulated Simulate(std::uint64_t seed, Plants plants, Coverage& coverage, bool tracing) {
  ++coverage.seeds;
  return Simulation(seed, plants, coverage, tracing).Run();
}

}  // namespace belay::checkpoint::sim
