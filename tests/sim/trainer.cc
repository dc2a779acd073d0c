#include "tests/sim/trainer.h"

#include <algorithm>
#include <utility>

namespace belay::checkpoint::sim {

using base::Code;
using std::chrono::milliseconds;

namespace {
constexpr base::Duration kStepTime = milliseconds(8);
constexpr base::Duration kCopyTime = milliseconds(2);
constexpr base::Duration kHungTime = milliseconds(600);
constexpr base::Duration kBeginWait = milliseconds(250);
constexpr base::Duration kPatientWait = milliseconds(2000);
constexpr std::uint32_t kWaitMs = 200;
constexpr int kPatience = 40;  // tries of a patient rank
}  // namespace

Trainer::Trainer(World& world, std::shared_ptr<RunOf> run, int rank)
    : Program(world),
      run_(std::move(run)),
      rank_(rank),
      state_(run_->job.key, rank, run_->world),
      step_(run_->first_step) {}

void Trainer::Died() {
  line_.reset();
  buffers_.clear();
}

Trainer::Next Trainer::AfterError(const base::Error& error) {
  if (error.code == Code::kStaleGeneration) {
    world_.Count(Kind::kStaleRank);
    return Next::kLeave;
  }
  return error.code == Code::kUnavailable ? Next::kReconnect : Next::kGoOn;
}

void Trainer::MaybeRepeat(const wire::Request& request) {
  if (world_.network.trouble.repeat == 0 || !world_.scheduler.Chance(world_.network.trouble.repeat)) return;
  world_.Count(Kind::kRepeated);
  line_->Send(request, [](const Outcome&) {});
}

Task<> Trainer::Life() {
  while (true) {
    line_ = co_await Connect();
    Next next = co_await Attach();
    if (next == Next::kGoOn && !run_->resumed[static_cast<std::size_t>(rank_)]) next = co_await Resume();
    if (next == Next::kGoOn) next = co_await Train();
    line_.reset();
    buffers_.clear();
    if (next != Next::kReconnect) co_return;
    co_await world_.scheduler.Sleep(world_.scheduler.Some(milliseconds(10)));
  }
}

Task<Trainer::Next> Trainer::Attach() {
  wire::Request request;
  wire::Attach& attach = *request.mutable_attach();
  SetKey(run_->job.key, *attach.mutable_key());
  attach.set_generation(run_->generation.value());
  attach.set_rank(rank_);
  attach.set_world_size(run_->world);
  attach.set_staging_bytes(state_.staging_bytes());
  attach.set_layout_fingerprint(state_.fingerprint());
  attach.set_takes_more_buffers(run_->generation.value() % 4 != 0);  // else a program from before there were any
  attach.mutable_retention()->set_keep_last(run_->job.keep_last);
  attach.mutable_retention()->set_keep_every(run_->job.keep_every);
  Outcome answer = co_await line_->Ask(request);
  if (!answer) {
    const Next next = AfterError(answer.error());
    co_return next == Next::kLeave ? next : Next::kReconnect;
  }
  auto mapping = base::MapSharedMemory(answer->descriptors.at(0).get(), answer->response.attached().staging_bytes(),
                                       base::MapAccess::kReadWrite);
  if (!mapping) co_return Next::kLeave;
  buffers_[0] = *std::move(mapping);
  co_return Next::kGoOn;
}

// The newest that can be had, from memory if it is there, else from disk, else the one before.
Task<Trainer::Next> Trainer::Resume() {
  const commit::JobKey& job = run_->job.key;
  const auto certain = world_.machine->half_blind ? std::nullopt : world_.model.NewestCertain(job);
  wire::Request request;
  SetKey(job, *request.mutable_restore_points()->mutable_key());
  Outcome answer = co_await line_->Ask(request);
  if (!answer) co_return AfterError(answer.error()) == Next::kLeave ? Next::kLeave : Next::kReconnect;
  const wire::RestorePointList points = answer->response.restore_point_list();
  world_.model.CheckPoints(job, points, world_.machine->half_blind ? std::nullopt : certain);
  for (const wire::RestorePoint& point : points.points()) {
    const commit::CheckpointId id{base::Generation(point.generation()), base::Step(point.step())};
    for (const bool from_memory : {true, false}) {
      if (from_memory ? !point.in_memory() : !point.committed()) continue;
      while (world_.scheduler.depth() > 1) co_await world_.scheduler.Sleep(std::chrono::microseconds(100));
      const Restored restored = Restore(world_, line_, job, id, from_memory);
      if (line_->broken() || !world_.machine->up()) co_return Next::kReconnect;
      if (!restored.whole) continue;
      if (point.world_size() != run_->world) world_.Count(Kind::kOtherWorld);
      run_->resumed[static_cast<std::size_t>(rank_)] = true;
      co_return Next::kGoOn;
    }
  }
  run_->resumed[static_cast<std::size_t>(rank_)] = true;  // nothing to be had: a fresh start
  co_return Next::kGoOn;
}

Task<Trainer::Next> Trainer::Train() {
  const auto all = [this](auto holds) { return std::all_of(run_->done.begin(), run_->done.end(), holds); };
  while (!std::all_of(run_->resumed.begin(), run_->resumed.end(), [](bool resumed) { return resumed; })) {
    co_await world_.scheduler.Sleep(milliseconds(3));
  }
  while (step_ < run_->last_step) {
    co_await world_.scheduler.Sleep(world_.scheduler.Some(kStepTime));
    // A step is a collective: nobody is more than one ahead.
    while (!all([this](std::int64_t done) { return done >= step_; })) {
      co_await world_.scheduler.Sleep(milliseconds(3));
      if (line_->broken()) co_return Next::kReconnect;
    }
    const base::Step step(step_ + 1);
    if (step.value() % run_->job.save_every == 0) {
      const Next next = co_await Save(step);
      if (next != Next::kGoOn) co_return next;
    }
    step_ = step.value();
    run_->done[static_cast<std::size_t>(rank_)] = step_;
  }
  for (const base::Step step : std::exchange(unheard_, {})) {
    bool ended = false;
    const Next next = co_await Await(step, &ended);
    if (next != Next::kGoOn) co_return next;
  }
  co_return Next::kLeave;
}

Task<Trainer::Next> Trainer::Save(base::Step step) {
  bool done = false;
  Next next = co_await Begin(step, &done);
  if (next != Next::kGoOn || !done) co_return next;
  next = co_await AwaitOthers(step, &done);
  if (next != Next::kGoOn || !done) co_return next;
  copying_ = true;
  world_.model.Writing(run_->job.key, IdOf(step), rank_);
  next = co_await Copy(step, &done);
  copying_ = false;
  if (next != Next::kGoOn || !done) co_return next;

  if (world_.plants.stale_bytes && rank_ == 0 && world_.scheduler.Chance(0.1)) {
    state_.Become(IdOf(base::Step(step.value() - 1)));
    for (int portion = 0; portion < RankState::kPortions; ++portion) state_.CopyPortion(portion, Staging());
    state_.SetId(IdOf(step));
  }
  wire::Request request;
  *request.mutable_seal_snapshot() = state_.Seal(Staging());
  world_.model.Sealing(run_->job.key, IdOf(step), rank_, run_->world);
  Line::Call sealing = line_->Ask(request);
  MaybeRepeat(request);
  Outcome sealed = co_await sealing;
  if (!sealed) {
    world_.Count(sealed.error().code == Code::kUnavailable ? Kind::kSaveUnknown : Kind::kSaveFailed);
    co_return AfterError(sealed.error());
  }
  if (!run_->patient && world_.scheduler.Chance(0.3)) {  // goes on training, and asks later
    unheard_.push_back(step);
    co_return Next::kGoOn;
  }
  bool ended = false;
  while (!ended) {
    next = co_await Await(step, &ended);
    if (next != Next::kGoOn) co_return next;
    if (!run_->patient && world_.scheduler.Chance(0.2)) co_return Next::kGoOn;
  }
  co_return Next::kGoOn;
}

Task<Trainer::Next> Trainer::Begin(base::Step step, bool* begun) {
  wire::Request request;
  request.mutable_begin_snapshot()->set_step(step.value());
  request.mutable_begin_snapshot()->set_reason("interval");
  for (int tries = run_->patient ? kPatience : 1; tries > 0; --tries) {
    Line::Call beginning = line_->Ask(request);
    MaybeRepeat(request);
    Outcome answer = co_await beginning;
    *begun = answer.has_value();
    if (*begun) {
      if (!TakeBuffer(*answer)) co_return Next::kReconnect;
      world_.model.Begun(run_->job.key, IdOf(step));
      TellOthers(step, true);
      co_return Next::kGoOn;
    }
    world_.Count(Kind::kSaveRefused);
    const Next next = AfterError(answer.error());
    if (next != Next::kGoOn) co_return next;
    if (answer.error().code == Code::kAlreadyExists) {
      world_.model.Of(run_->job.key, IdOf(step)).told_committed = true;
      break;
    }
    if (run_->patient) co_await world_.scheduler.Sleep(milliseconds(25));
  }
  TellOthers(step, false);
  co_return Next::kGoOn;
}

// False: it cannot be mapped.
bool Trainer::TakeBuffer(const Answer& answer) {
  buffer_ = answer.response.has_begun() ? answer.response.begun().buffer() : 0;
  if (buffer_ == 0) return true;
  world_.Count(Kind::kFurtherBuffer);
  auto mapping = base::MapSharedMemory(answer.descriptors.at(0).get(), answer.response.begun().bytes(),
                                       base::MapAccess::kReadWrite);
  if (mapping) buffers_[buffer_] = *std::move(mapping);
  return mapping.has_value();
}

void Trainer::TellOthers(base::Step step, bool granted) {
  Asked& mine = run_->asked[static_cast<std::size_t>(rank_)];
  mine = {step, mine.step == step ? mine.tries + 1 : 1, granted};
}

// No rank writes into its memory before every rank may: what the memory holds may be the only copy of the newest state.
Task<Trainer::Next> Trainer::AwaitOthers(base::Step step, bool* all_begun) {
  const int tries = run_->asked[static_cast<std::size_t>(rank_)].tries;
  const base::SteadyTime until = world_.scheduler.now() + (run_->patient ? kPatientWait : kBeginWait);
  while (true) {
    bool waiting = false, refused = false;
    for (const Asked& other : run_->asked) {
      const bool not_yet = other.step < step || (other.step == step && other.tries < tries);
      waiting |= not_yet;
      refused |= !not_yet && (other.step != step || other.tries != tries || !other.granted);
    }
    *all_begun = !waiting && !refused;
    if (*all_begun) co_return Next::kGoOn;
    if (refused || world_.scheduler.now() >= until) {
      world_.Count(Kind::kOtherCannotBegin);
      co_return co_await Abandon(step, "another rank cannot begin");
    }
    co_await world_.scheduler.Sleep(milliseconds(2));
    if (line_->broken()) co_return Next::kReconnect;
  }
}

Task<Trainer::Next> Trainer::Abandon(base::Step step, std::string why) {
  wire::Request request;
  request.mutable_abandon_snapshot()->set_step(step.value());
  request.mutable_abandon_snapshot()->set_why(why);
  Outcome answer = co_await line_->Ask(request);
  co_return answer ? Next::kGoOn : AfterError(answer.error());
}

Task<Trainer::Next> Trainer::Copy(base::Step step, bool* copied) {
  *copied = false;
  state_.Become(IdOf(step));
  for (int portion = 0; portion < RankState::kPortions; ++portion) {
    co_await world_.scheduler.Sleep(world_.scheduler.Some(kCopyTime));
    if (line_->broken()) co_return Next::kReconnect;
    state_.CopyPortion(portion, Staging());
    if (!run_->patient && world_.scheduler.Chance(0.003)) {  // stopped, say; when it wakes, a newer run may have begun
      world_.Count(Kind::kHungCopying);
      co_await world_.scheduler.Sleep(world_.scheduler.Some(kHungTime));
    }
  }
  if (run_->patient || !world_.scheduler.Chance(0.04)) {
    *copied = true;
    co_return Next::kGoOn;
  }
  co_return co_await Abandon(step, "the state changed");
}

Task<Trainer::Next> Trainer::Await(base::Step step, bool* ended) {
  wire::Request request;
  request.mutable_wait_snapshot()->set_step(step.value());
  request.mutable_wait_snapshot()->set_deadline_ms(kWaitMs);
  Outcome answer = co_await line_->Ask(request);
  if (!answer) {
    *ended = true;
    world_.Count(answer.error().code == Code::kUnavailable ? Kind::kSaveUnknown : Kind::kSaveFailed);
    co_return AfterError(answer.error());
  }
  const wire::SnapshotOutcome& outcome = answer->response.snapshot_outcome();
  *ended = world_.model.Told(run_->job.key, IdOf(step), outcome);
  if (outcome.state() == wire::COMMITTED) {
    world_.Count(Kind::kSaveCommitted);
    ++run_->committed[static_cast<std::size_t>(rank_)];
  } else if (*ended) {
    world_.Count(Kind::kSaveFailed);
  }
  co_return Next::kGoOn;
}

}  // namespace belay::checkpoint::sim
