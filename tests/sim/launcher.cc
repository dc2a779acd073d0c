#include "tests/sim/launcher.h"

#include <algorithm>
#include <utility>

namespace belay::checkpoint::sim {

using std::chrono::milliseconds;

namespace {
constexpr base::Duration kRunTime = milliseconds(900);
constexpr base::Duration kStaleTime = milliseconds(700);
constexpr int kRanksMax = 4;
constexpr std::int64_t kCalmSaves = 4;
}  // namespace

std::shared_ptr<Trainer> Launcher::SomeTrainer(base::Rng& rng) const {
  std::vector<std::shared_ptr<Trainer>> living;
  for (const auto* list : {&ranks_, &stale_}) {
    for (const auto& rank : *list) {
      if (!rank->ended()) living.push_back(rank);
    }
  }
  return living.empty() ? nullptr : living[rng.Below(living.size())];
}

Task<bool> Launcher::BeginRun() {
  const int ranks = 1 + static_cast<int>(world_.scheduler.rng().Below(kRanksMax));
  wire::Request request;
  wire::BeginRun& begin = *request.mutable_begin_run();
  SetKey(job_.key, *begin.mutable_key());
  begin.set_world_size(ranks);
  begin.set_host("node");
  begin.set_pid(pid());
  if (run_ != nullptr && world_.scheduler.Chance(0.5)) begin.set_continues(run_->generation.value());
  Outcome answer = co_await line_->Ask(request);
  if (!answer) co_return false;
  const wire::RunGrant grant = answer->response.run_grant();
  world_.Count(Kind::kGranted);
  world_.model.Granted(job_.key, base::Generation(grant.generation()));
  StartRanks(grant, ranks);
  co_return true;
}

void Launcher::StartRanks(const wire::RunGrant& grant, int ranks) {
  run_ = std::make_shared<RunOf>();
  run_->job = job_;
  run_->generation = base::Generation(grant.generation());
  run_->world = ranks;
  run_->first_step = std::max<std::int64_t>(0, grant.newest_step());
  run_->last_step = run_->first_step + (calm_ ? kCalmSaves * job_.save_every
                                              : 10 + static_cast<std::int64_t>(world_.scheduler.rng().Below(60)));
  run_->patient = calm_;
  run_->done.assign(static_cast<std::size_t>(ranks), run_->first_step);
  run_->resumed.assign(static_cast<std::size_t>(ranks), false);
  run_->asked.assign(static_cast<std::size_t>(ranks), {});
  run_->committed.assign(static_cast<std::size_t>(ranks), 0);
  run_->saves = kCalmSaves;
  for (int rank = 0; rank < ranks; ++rank) {
    ranks_.push_back(std::make_shared<Trainer>(world_, run_, rank));
    ranks_.back()->Run();
  }
}

// Most are killed; some hang, and wake when a newer generation has long begun.
void Launcher::RetireRanks() {
  std::erase_if(stale_, [](const auto& rank) { return rank->ended(); });
  for (auto& rank : ranks_) {
    if (rank->ended()) continue;
    if (calm_ || world_.scheduler.Chance(0.75)) {
      rank->Kill();
    } else {
      world_.scheduler.After(world_.scheduler.Some(kStaleTime), [stale = std::weak_ptr(rank)] {
        if (const auto there = stale.lock()) there->Kill();
      });
    }
    stale_.push_back(std::move(rank));
  }
  ranks_.clear();
}

bool Launcher::RanksLeft() const {
  return std::any_of(ranks_.begin(), ranks_.end(), [](const auto& rank) { return !rank->ended(); });
}

Task<> Launcher::Life() {
  while (true) {
    if (line_ == nullptr || line_->broken()) line_ = co_await Connect();
    const bool begun = co_await BeginRun();
    if (!begun) {
      co_await world_.scheduler.Sleep(milliseconds(20));
      if (world_.scheduler.Chance(0.3)) line_.reset();
      continue;
    }
    const base::SteadyTime until = world_.scheduler.now() + world_.scheduler.Some(kRunTime);
    while (RanksLeft() && (calm_ || world_.scheduler.now() < until)) co_await world_.scheduler.Sleep(milliseconds(10));
    const bool done = !RanksLeft();
    if (calm_ || world_.scheduler.Chance(0.5)) {
      wire::Request request;
      SetKey(job_.key, *request.mutable_end_run()->mutable_key());
      request.mutable_end_run()->set_generation(run_->generation.value());
      request.mutable_end_run()->set_outcome(done ? "done" : "failed");
      Outcome answer = co_await line_->Ask(request);
      if (calm_ && answer) run_->finished = true;
    } else if (world_.scheduler.Chance(0.3)) {
      world_.Count(Kind::kLauncherDied);
      line_.reset();
    }
    if (calm_) co_return;
    RetireRanks();
  }
}

Task<> Visitor::Life() {
  base::Rng& rng = world_.scheduler.rng();
  while (true) {
    if (line_ == nullptr || line_->broken() || world_.scheduler.Chance(0.2)) line_ = co_await Connect();
    co_await world_.scheduler.Sleep(world_.scheduler.Some(milliseconds(60)));
    const commit::JobKey job = jobs_[rng.Below(jobs_.size())].key;
    wire::Request request;
    request.mutable_list_checkpoints()->set_job(job.job);
    Outcome answer = co_await line_->Ask(request);
    if (!answer) continue;
    const wire::CheckpointList list = answer->response.checkpoint_list();
    if (rng.Below(12) == 0) {
      const bool asked = co_await Reindex();
      if (!asked) continue;
    }
    if (rng.Below(10) == 0) {
      wire::Request status;
      status.mutable_daemon_status();
      Outcome report = co_await line_->Ask(status);
      if (!report) continue;
    }
    if (list.checkpoints_size() == 0) continue;
    const auto chosen = static_cast<int>(rng.Below(static_cast<std::uint64_t>(list.checkpoints_size())));
    const wire::CheckpointInfo info = list.checkpoints(chosen);
    const commit::CheckpointId id{base::Generation(info.checkpoint().generation()),
                                  base::Step(info.checkpoint().step())};
    const std::uint64_t what = rng.Below(10);
    if (what < 3) {
      while (world_.scheduler.depth() > 1) co_await world_.scheduler.Sleep(std::chrono::microseconds(100));
      const Restored restored = Restore(world_, line_, job, id, info.in_memory() && rng.Below(2) == 0);
      if (!restored.whole) co_await world_.scheduler.Sleep(milliseconds(1));
    } else if (what < 5) {
      const bool asked = co_await Pin(job, id);
      if (!asked) continue;
    } else if (what < 6) {
      const bool asked = co_await Remove(job, id);
      if (!asked) continue;
    }
  }
}

Task<bool> Visitor::Pin(const commit::JobKey& job, const commit::CheckpointId& id) {
  Fact& fact = world_.model.Of(job, id);
  const bool pinned = fact.pin != Fact::Pin::kYes;
  wire::Request request;
  wire::PinCheckpoint& pin = *request.mutable_pin_checkpoint();
  SetKey(job, *pin.mutable_checkpoint()->mutable_key());
  pin.mutable_checkpoint()->set_step(id.step.value());
  pin.mutable_checkpoint()->set_generation(id.generation.value());
  pin.set_pinned(pinned);
  fact.pin = Fact::Pin::kUnsure;
  Outcome answer = co_await line_->Ask(request);
  if (!answer) co_return false;
  world_.Count(Kind::kPinned);
  world_.model.Of(job, id).pin = pinned ? Fact::Pin::kYes : Fact::Pin::kNo;
  co_return true;
}

Task<bool> Visitor::Remove(const commit::JobKey& job, const commit::CheckpointId& id) {
  wire::Request request;
  wire::RemoveCheckpoint& remove = *request.mutable_remove_checkpoint();
  SetKey(job, *remove.mutable_checkpoint()->mutable_key());
  remove.mutable_checkpoint()->set_step(id.step.value());
  remove.mutable_checkpoint()->set_generation(id.generation.value());
  remove.set_force(world_.scheduler.Chance(0.5));
  world_.model.Of(job, id).remove_asked = true;
  Outcome answer = co_await line_->Ask(request);
  if (!answer) co_return answer.error().code != base::Code::kUnavailable;
  co_return true;
}

Task<bool> Visitor::Reindex() {
  wire::Request request;
  request.mutable_reindex();
  Outcome answer = co_await line_->Ask(request);
  if (!answer) co_return false;
  world_.Count(Kind::kReindexed);
  if (answer->response.reindex_report().problems_size() > 0) world_.machine->half_blind = true;
  co_return true;
}

}  // namespace belay::checkpoint::sim
