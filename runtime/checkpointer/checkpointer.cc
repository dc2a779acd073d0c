#include "belay/checkpointer.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <optional>
#include <utility>

#include "belay/sampler.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/checkpointer/resume.h"
#include "runtime/checkpointer/saver.h"

namespace belay {
namespace {

using base::Code;

// How long a save that somebody waits for may take where no grace period says otherwise.
constexpr base::Duration kPatience = std::chrono::minutes(30);
// How long a last save that fails is tried again where no grace period says otherwise: a daemon that was killed is back
// by then, and GPUs that wait in vain cost somebody.
constexpr base::Duration kRetryTime = std::chrono::minutes(1);
// Of a grace period: what is left for leaving MPI and for the launcher.
constexpr base::Duration kLeavingTime = std::chrono::milliseconds(500);

[[noreturn]] void Throw(const base::Error& error) {
  throw Error(static_cast<int>(base::Describe(error.code).exit_status), error.Text());
}
void OrThrow(const base::Status& status) {
  if (!status) Throw(status.error());
}
template <typename T>
T OrThrow(base::Result<T> result) {
  if (!result) Throw(result.error());
  return std::move(*result);
}

}  // namespace

class Checkpointer::Impl {
 public:
  Impl(Session& session, CheckpointOptions options)
      : run_(session.state()),
        options_(std::move(options)),
        clock_(base::SystemClock()),
        state_(base::Rank(session.rank()), session.device()) {
    if (options_.every < 0 || options_.keep_last == 0) {
      throw Error(static_cast<int>(base::ExitStatus::kUsage),
                  "CheckpointOptions: every must be 0 or more, keep_last 1 or more");
    }
    const auto& environment = run_.environment;
    if (environment.socket.empty() || environment.job.empty()) {
      if (run_.place.rank == 0) {
        base::LogWarning("training without checkpoints: not started by `belay run`, so no belayd is known");
      }
    } else {
      saver_ = std::make_unique<runtime::Saver>(run_, state_, options_, session.device(), clock_);
    }
    finish_handle_ = run_.AddFinishCallback([this] { return Finish(); });
  }

  // The program may leave the scope of its Checkpointer before it calls finish(): the last save is made here then. Not
  // while an exception flies: the other ranks may be elsewhere.
  ~Impl() {
    run_.RemoveFinishCallback(finish_handle_);
    if (run_.finished() || std::uncaught_exceptions() > 0) return;
    const detail::SaveOutcome outcome = Finish();
    if (outcome == detail::SaveOutcome::kNothing) return;
    run_.AddFinishCallback([outcome] { return outcome; });
  }

  runtime::StateSet& state() { return state_; }

  std::int64_t Resume() {
    run_.EnterPhase(base::Phase::kLoad);
    std::int64_t first = 0;
    bool resumed = false;
    if (saver_) {
      if (const auto from = OrThrow(runtime::Resume(run_, state_, clock_))) {
        const checkpoint::RestorePoint* const point = &from->point;
        resumed = true;
        watched_ = from->metrics;
        run_.ResumedFrom(point->generation, TrustSteps());
        first = point->step.value();
        saver_->SetParent(point->step);
        if (point->committed) {  // what is in memory alone is still to be saved
          saved_step_ = first;
          run_.Committed(first);
        }
      }
      OrThrow(saver_->Prepare());
    }
    run_.Resumed(resumed ? first : -1);
    proved_at_ = resumed ? first + TrustSteps() : 0;
    run_.StepsFinished(first);
    finished_steps_ = first;
    Vote();
    return first;
  }

  Next StepDone(std::int64_t step, const std::map<std::string, double>& metrics) {
    CheckDivergence(step, metrics);
    finished_steps_ = step + 1;
    metrics_ = metrics;
    run_.StepsFinished(finished_steps_);
    if (saver_) saver_->Report();
    if (!voting_) Vote();  // the program never called resume()
    if (run_.stopped() || Vote()) return Stop();
    const bool due = options_.every > 0 && finished_steps_ % options_.every == 0;
    if (!saver_ || !(due || postponed_)) return Next::kContinue;

    postponed_ = OrThrow(saver_->StartBeside(Request("interval"))) == runtime::Saver::Begun::kPostponed;
    return Next::kContinue;
  }

  void BeforeUpdate() {
    if (saver_) saver_->AwaitCopied();
  }

  bool SaveNow(const std::string& reason) {
    if (!saver_) {
      if (run_.place.rank == 0) base::LogError("nothing saved: training runs without checkpoints");
      return false;
    }
    if (finished_steps_ < 0) {
      // Nobody knows yet of which step it would be.
      if (run_.place.rank == 0) base::LogError("nothing saved: save_now() comes after resume() or step_done()");
      return false;
    }
    run_.EnterPhase(base::Phase::kSave);
    // Not tried again: the caller hears of it and trains on.
    const bool saved = OrThrow(Save(reason, kPatience, base::Duration(0)));
    run_.EnterPhase(base::Phase::kStep);
    return saved;
  }

 private:
  // A save after the resume is progress too, so it may prove no checkpoint later than that.
  std::uint32_t TrustSteps() const {
    return options_.every > 0 ? static_cast<std::uint32_t>(std::min<std::int64_t>(options_.trust_steps, options_.every))
                              : options_.trust_steps;
  }

  // A state that came back whole, and gives no numbers where it gave numbers before: training on from it would only
  // save more of that. The launcher goes back to an older one.
  void CheckDivergence(std::int64_t step, const std::map<std::string, double>& metrics) {
    if (step >= proved_at_) return;
    for (const auto& [name, value] : metrics) {
      if (name != "loss" && name != options_.best_metric) continue;  // a norm may be inf and the step be skipped for it
      const auto before = watched_.find(name);
      if (std::isfinite(value) || before == watched_.end() || !std::isfinite(before->second)) continue;
      run_.Diverged();
      throw Error(static_cast<int>(base::ExitStatus::kBadData),
                  base::Str("step ", step, " gives ", name, " = ", value, ", few steps after resuming from step ",
                            proved_at_ - TrustSteps(), ", where it was ", before->second,
                            ": the checkpoint is suspect (CheckpointOptions::trust_steps = 0 trains on)"));
    }
  }

  runtime::Saver::Request Request(const std::string& reason) const {
    return {.step = base::Step(finished_steps_), .reason = reason, .metrics = metrics_};
  }

  base::Result<bool> Save(const std::string& reason, base::Duration patience, base::Duration retry_time) {
    if (saved_step_ == finished_steps_) return true;
    const base::SteadyTime now = clock_.Now();
    BELAY_ASSIGN(const bool saved, saver_->SaveAndWait(Request(reason), {now + patience, now + retry_time}));
    if (saved) saved_step_ = finished_steps_;
    return saved;
  }

  bool Vote() {
    voting_ = true;
    return OrThrow(run_.VoteStep());
  }

  Next Stop() {
    if (last_) return Next::kStop;
    run_.RecordStop();
    run_.EnterPhase(base::Phase::kSave);
    if (!saver_) {
      last_ = detail::SaveOutcome::kFailed;
      return Next::kStop;
    }
    std::int64_t grace = run_.environment.grace_seconds;
    if (run_.page() != nullptr && run_.page()->grace_seconds.load() > 0) grace = run_.page()->grace_seconds.load();
    const base::Duration patience = grace > 0 ? std::chrono::seconds(grace) - kLeavingTime : kPatience;
    const auto saved = OrThrow(Save("preemption", patience, grace > 0 ? patience : kRetryTime));
    last_ = saved ? detail::SaveOutcome::kSaved : detail::SaveOutcome::kFailed;
    return Next::kStop;
  }

  // Collective, from finish(): what became of the last step. Must not throw.
  detail::SaveOutcome Finish() {
    if (last_) return *last_;
    last_ = detail::SaveOutcome::kNothing;
    if (!saver_ || finished_steps_ < 0) return *last_;
    run_.EnterPhase(base::Phase::kSave);
    if (!options_.save_at_end) {
      saver_->AwaitCommit(kPatience);
      return *last_;
    }
    try {
      const auto saved = Save("final", kPatience, kRetryTime);
      if (!saved && run_.place.rank == 0) base::LogError("the last save failed", {{"reason", saved.error().Text()}});
      last_ = saved && *saved ? detail::SaveOutcome::kSaved : detail::SaveOutcome::kFailed;
    } catch (const std::exception& error) {
      base::LogError("the last save failed", {{"reason", std::string(error.what())}});
      last_ = detail::SaveOutcome::kFailed;
    }
    return *last_;
  }

  detail::SessionState& run_;
  const CheckpointOptions options_;
  base::Clock& clock_;
  runtime::StateSet state_;
  std::unique_ptr<runtime::Saver> saver_;  // null: no daemon, no checkpoints
  int finish_handle_ = 0;
  std::int64_t finished_steps_ = -1;  // -1: neither resumed nor trained
  std::int64_t saved_step_ = -1;      // on disk or in the daemon's memory, agreed by all ranks
  std::map<std::string, double> metrics_;
  std::map<std::string, double> watched_;  // of the checkpoint that was resumed from
  std::int64_t proved_at_ = 0;             // that step finished proves it
  bool postponed_ = false;
  bool voting_ = false;
  std::optional<detail::SaveOutcome> last_;
};

Checkpointer::Checkpointer(Session& session, CheckpointOptions options)
    : impl_(std::make_unique<Impl>(session, std::move(options))) {}
Checkpointer::~Checkpointer() = default;

Checkpointer& Checkpointer::add(const std::string& name, torch::nn::Module& module) {
  OrThrow(impl_->state().AddModule(name, module));
  return *this;
}
Checkpointer& Checkpointer::add(const std::string& name, torch::optim::Optimizer& optimizer) {
  OrThrow(impl_->state().AddOptimizer(name, optimizer));
  return *this;
}
Checkpointer& Checkpointer::add(const std::string& name, PermutationSampler& sampler) {
  OrThrow(impl_->state().AddRecord(name,
                                   {.save = [&sampler] { return sampler.save(); },
                                    .load = [&sampler](const std::string& state) { sampler.load(state); }},
                                   /*shared=*/true));
  return *this;
}
Checkpointer& Checkpointer::add(const std::string& name, torch::Tensor& tensor, bool per_rank) {
  OrThrow(impl_->state().AddTensor(name, tensor, per_rank));
  return *this;
}
Checkpointer& Checkpointer::add(const std::string& name, std::function<std::string()> save,
                                std::function<void(const std::string&)> load) {
  OrThrow(impl_->state().AddRecord(name, {.save = std::move(save), .load = std::move(load)}, /*shared=*/false));
  return *this;
}

std::int64_t Checkpointer::resume() { return impl_->Resume(); }
Next Checkpointer::step_done(std::int64_t step, const std::map<std::string, double>& metrics) {
  return impl_->StepDone(step, metrics);
}
void Checkpointer::before_update() { impl_->BeforeUpdate(); }
bool Checkpointer::save_now(const std::string& reason) { return impl_->SaveNow(reason); }

}  // namespace belay
