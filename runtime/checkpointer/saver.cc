#include "runtime/checkpointer/saver.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <utility>

#include "checkpoint/format/deal.h"
#include "runtime/base/check.h"
#include "runtime/base/log.h"
#include "runtime/base/transport.h"
#include "runtime/base/units.h"
#include "runtime/checkpointer/resume.h"
#include "runtime/session/torch_parts.h"
#include "runtime/state/thrown.h"

namespace belay::runtime {

using base::Code;
using base::Fail;

// Whether the state stood still while it was copied: asked once, by whoever may be followed by an update. On the CPU
// that is the worker at the end of its copy; on a GPU the update may be issued while bytes still travel (the stream
// keeps the order), so the training thread asks before it lets go.
struct CopyTicket {
  explicit CopyTicket(std::function<bool()> unchanged) : witness(std::move(unchanged)) {}
  bool Unchanged() {
    const std::lock_guard lock(mutex);
    if (!verdict) verdict = witness();
    return *verdict;
  }
  void Spoil() {
    const std::lock_guard lock(mutex);
    verdict = false;
  }
  std::mutex mutex;
  std::function<bool()> witness;
  std::optional<bool> verdict;
};

namespace {

double Seconds(base::Duration duration) { return std::chrono::duration<double>(duration).count(); }

constexpr base::Duration kBusyPause = std::chrono::milliseconds(20);
// Before a save that failed is tried again: a daemon that was killed is back within a second.
constexpr base::Duration kRetryPause = std::chrono::milliseconds(200);

// May the same save succeed a moment later? The daemon may come back (and know nothing of the step), another rank's
// trouble may pass.
bool MayMend(Code code) {
  switch (code) {
    case Code::kCancelled:
    case Code::kNotFound:
      return true;
    default:
      const auto retry = base::Describe(code).retry;
      return retry == base::RetryClass::kRetryCall || retry == base::RetryClass::kOutcomeUnknown;
  }
}

}  // namespace

Saver::Saver(belay::detail::SessionState& run, StateSet& state, const CheckpointOptions& options, at::Device device,
             base::Clock& clock)
    : run_(run),
      state_(state),
      options_(options),
      device_(device),
      clock_(clock),
      rank_(run.place.rank),
      worker_(clock) {
  hook_ = std::make_unique<BackwardHook>([this] { AwaitCopied(); });
}

Saver::~Saver() { hook_.reset(); }

base::Result<Saver::Verdict> Saver::Agree(Verdict own) {
  BELAY_ASSIGN(const std::int64_t worst, run_.AllReduceMax(static_cast<std::int64_t>(own)));
  return static_cast<Verdict>(worst);
}

void Saver::DropCapture() {
  worker_.AwaitIdle(std::nullopt);  // it asks the snapshotter about commits
  snapshotter_.reset();
  staging_copier_ = nullptr;
  ticket_.reset();
  frozen_witness_ = nullptr;
  capture_.reset();
}

base::Status Saver::Recapture() try {
  // The old one first: its side buffers may be all the memory that is left for the new ones.
  DropCapture();
  state_.Materialise();
  BELAY_ASSIGN(auto tensors, state_.Describe());
  BELAY_ASSIGN(capture_, Capture::Make(std::move(tensors), rank_));
  const Capture::Side& side = capture_->side();
  if (side.bytes > Capture::kSideBytesMax && !warned_of_side_) {
    warned_of_side_ = true;
    base::LogWarning("buffers are copied aside at each save, which takes memory of their size",
                     {{"bytes", base::HumanBytes(side.bytes)},
                      {"largest", side.largest},
                      {"largest_bytes", base::HumanBytes(side.largest_bytes)}});
  }
  return {};
} catch (...) {
  return tl::unexpected(ThrownError("describing the state"));
}

base::Status Saver::Exchange() {
  worker_.AwaitIdle(std::nullopt);
  plans_.clear();
  fingerprint_.clear();
  if (auto described = AgreeOn(run_, Recapture()); !described) {
    DropCapture();
    return described;
  }
  const std::string fingerprint = checkpoint::LayoutFingerprint(capture_->layout());
  BELAY_ASSIGN(const auto fingerprints, run_.AllGather(fingerprint));
  std::vector<checkpoint::RankLayout> world;
  if (std::all_of(fingerprints.begin(), fingerprints.end(), [&](const auto& other) { return other == fingerprint; })) {
    for (std::size_t r = 0; r < fingerprints.size(); ++r) {
      world.push_back(capture_->layout());
      world.back().rank = base::Rank(static_cast<std::int32_t>(r));
    }
  } else {
    BELAY_ASSIGN(const auto layouts, run_.AllGather(checkpoint::EncodeLayout(capture_->layout())));
    for (const auto& text : layouts) {
      BELAY_ASSIGN(auto layout, checkpoint::DecodeLayout(text));
      world.push_back(std::move(layout));
    }
  }
  BELAY_ASSIGN(const auto pieces, checkpoint::Deal(world));
  BELAY_ASSIGN(plans_, checkpoint::PlanShards(capture_->layout(), pieces.at(static_cast<std::size_t>(rank_.value()))));
  fingerprint_ = fingerprint;
  return {};
}

base::Result<std::unique_ptr<CopyEngine>> Saver::MakeEngine() {
  if (run_.torch->copy_engine) return run_.torch->copy_engine();
  if (capture_->HasCudaTensors()) return MakeCudaCopyEngine(device_.is_cuda() ? std::max<int>(device_.index(), 0) : 0);
  return std::unique_ptr<CopyEngine>();
}

base::Status Saver::MakeSnapshotter() try {
  BELAY_CHECK(capture_ != nullptr && worker_.Idle(), "makes a snapshotter without a layout or beside a save");
  snapshotter_.reset();
  staging_copier_ = nullptr;
  hook_->Watch(state_.TrainedParameters());
  std::unique_ptr<checkpoint::Copier> copier;
  StagingCopier* staging = nullptr;
  BELAY_ASSIGN(auto engine, MakeEngine());
  if (engine != nullptr) {
    auto made = std::make_unique<StagingCopier>(std::move(engine));
    staging = made.get();
    copier = std::move(made);
  } else {
    copier = checkpoint::MakeMemoryCopier();
  }
  const auto& environment = run_.environment;
  checkpoint::SnapshotterOptions options;
  options.socket = environment.socket;
  options.attach = {.job = {environment.project, environment.job},
                    .generation = base::Generation(environment.generation),
                    .rank = rank_,
                    .world_size = run_.place.world_size,
                    .retention = {.keep_last = options_.keep_last,
                                  .keep_every = options_.keep_every,
                                  .keep_best = options_.keep_best,
                                  .metric = options_.best_metric,
                                  .larger_is_better = options_.larger_is_better},
                    .numa_node = run_.memory_node};
  options.identity = {.project = environment.project,
                      .job = environment.job,
                      .generation = options.attach.generation,
                      .rank = rank_,
                      .world_size = run_.place.world_size};
  BELAY_ASSIGN(snapshotter_,
               checkpoint::Snapshotter::Create(base::UnixTransport(), clock_, std::move(copier), std::move(options),
                                               fingerprint_, plans_, capture_->Sources(plans_)));
  staging_copier_ = staging;
  return {};
} catch (...) {
  return tl::unexpected(ThrownError("preparing the staging memory"));
}

base::Status Saver::Prepare() {
  BELAY_TRY(Exchange());
  if (auto made = MakeSnapshotter(); !made) {
    base::LogWarning("no staging memory yet; the first save tries again", {{"reason", made.error().Text()}});
  }
  return {};
}

Saver::Verdict Saver::TryBegin(const Request& request) try {
  failure_.reset();
  if (!worker_.Free()) return Verdict::kBusy;
  const auto fail = [&](const base::Error& error) {
    failure_ = error;
    return Verdict::kFailed;
  };
  const auto busy_or_fail = [&](const base::Error& error) {
    return error.code == Code::kBusy ? Verdict::kBusy : fail(error);
  };
  if (capture_ == nullptr || fingerprint_.empty()) return Verdict::kChanged;
  auto tensors = state_.Describe();
  if (!tensors) return fail(tensors.error());
  if (!capture_->Matches(*tensors)) {
    if (!worker_.Idle()) return Verdict::kBusy;
    DropCapture();  // before the new one asks for memory
    auto fresh = Capture::Make(std::move(*tensors), rank_);
    if (!fresh) return fail(fresh.error());
    if (checkpoint::LayoutFingerprint((*fresh)->layout()) != fingerprint_) return Verdict::kChanged;
    // The same state at other addresses: nobody else needs to know.
    capture_ = std::move(*fresh);
  }
  if (snapshotter_ == nullptr) {
    if (!worker_.Idle()) return Verdict::kBusy;
    if (auto made = MakeSnapshotter(); !made) return busy_or_fail(made.error());
  }
  auto begun = snapshotter_->Begin(request.step, request.reason);
  if (!begun && begun.error().code == Code::kCancelled) {
    // What became of a round of this step that this rank took no part in: others had begun it, this one was busy or had
    // a new layout. All have agreed since to try again, and who asks once more opens a new round.
    begun = snapshotter_->Begin(request.step, request.reason);
  }
  if (!begun) {
    // Waiting for the step's commit was given up too early, by this rank or another.
    return begun.error().code == Code::kAlreadyExists ? Verdict::kCommitted : busy_or_fail(begun.error());
  }
  return Verdict::kBegun;
} catch (...) {
  DropCapture();  // whatever is left of it; the next save begins afresh
  failure_ = ThrownError("describing the state");
  return Verdict::kFailed;
}

base::Result<Saver::Begun> Saver::StartBeside(const Request& request) {
  const auto start = clock_.Now();
  BELAY_ASSIGN(const Begun begun, Start(request));
  const double seconds = Seconds(clock_.Now() - start);
  if (begun == Begun::kStarted) {
    stall_seconds_ = 0;
    update_to_come_ = true;
  }
  Stalled(seconds);
  return begun;
}

base::Result<Saver::Begun> Saver::Start(const Request& request) {
  base::Status exchanged;  // the same on every rank
  for (int attempt = 0;; ++attempt) {
    const Verdict own = TryBegin(request);
    BELAY_ASSIGN(const Verdict agreed, Agree(own));
    if (agreed == Verdict::kBegun) {
      auto launched = Launch(request);
      if (launched) return Begun::kStarted;
      // This rank's records or device fail: the daemon drops the step, and the other ranks hear it from there.
      failure_ = launched.error();
      if (IsNews(failure_->Text())) {
        base::LogError("the save was given up; training goes on",
                       {{"step", request.step.value()}, {"reason", failure_->Text()}});
      }
      return Begun::kFailed;
    }
    if (own == Verdict::kBegun) {
      base::IgnoreError(snapshotter_->Abandon("another rank could not begin"), "the next Begin gives it up too");
    }
    if (agreed == Verdict::kCommitted) {
      committed_ = request.step;
      run_.Committed(request.step.value());
      return Begun::kStarted;
    }
    if (agreed == Verdict::kBusy) return Begun::kPostponed;
    if (agreed == Verdict::kChanged && attempt == 0) {
      exchanged = Exchange();
      if (!exchanged && exchanged.error().code == Code::kCommunication) return tl::unexpected(exchanged.error());
      // Everybody goes round once more, so that all hear of a failure: without a fingerprint this rank answers kChanged
      // again. The daemon gives memory of another size only while no rank has begun, so all attach before any begins.
      if (exchanged) base::IgnoreError(MakeSnapshotter(), "the next round tries again and reports it");
      BELAY_TRY(run_.Barrier());
      continue;
    }
    if (agreed == Verdict::kFailed) {
      BELAY_TRY(LogFailure(request.step));
      return Begun::kFailed;
    }
    failure_ = exchanged ? base::Error{Code::kInvalidArgument, "the state changes from save to save", nullptr}
                         : exchanged.error();
    if (rank_.value() == 0 && IsNews(failure_->Text())) {
      base::LogError("the save was given up; training goes on",
                     {{"step", request.step.value()}, {"reason", failure_->Text()}});
    }
    return Begun::kFailed;
  }
}

bool Saver::IsNews(const std::string& reason) {
  if (!said_) return true;
  return std::exchange(said_, reason) != reason;
}

base::Status Saver::LogFailure(base::Step step) {
  BELAY_ASSIGN(const auto reasons, run_.AllGather(failure_ ? failure_->Text() : std::string()));
  const auto first = std::find_if(reasons.begin(), reasons.end(), [](const auto& reason) { return !reason.empty(); });
  if (rank_.value() == 0 && first != reasons.end() && IsNews(*first)) {
    base::LogError("the save was given up; training goes on",
                   {{"step", step.value()}, {"rank", first - reasons.begin()}, {"reason", *first}});
  }
  return {};
}

base::Status Saver::Launch(const Request& request) {
  auto started = StartCopy(request);
  if (!started) {
    if (staging_copier_ != nullptr) staging_copier_->CopyEnded();  // it may be marked, and no Begin will come
    ticket_.reset();
    base::IgnoreError(snapshotter_->Abandon(started.error().Text()), "the error itself is reported");
  }
  return started;
}

base::Status Saver::StartCopy(const Request& request) try {
  BELAY_ASSIGN(auto records, state_.SaveRecords());
  capture_->CopyEager();
  ticket_ = std::make_shared<CopyTicket>(capture_->Witness());
  auto frozen_witness = capture_->FrozenWitness();
  const bool frozen_unchanged = frozen_witness_ && frozen_witness_();
  if (staging_copier_ != nullptr) BELAY_TRY(staging_copier_->MarkStepEnd());
  worker_.Start(
      {.snapshotter = snapshotter_.get(),
       .step = request.step,
       .copy = {.unchanged = [ticket = ticket_] { return ticket->Unchanged(); }, .frozen_unchanged = frozen_unchanged},
       .copy_ended =
           [staging = staging_copier_] {
             if (staging != nullptr) staging->CopyEnded();
           },
       .records = std::move(records),
       .metrics = request.metrics,
       .parent_step = parent_});
  frozen_witness_ = std::move(frozen_witness);  // of what is copied now, or was before and is the same
  return {};
} catch (...) {
  return tl::unexpected(ThrownError("capturing the state"));
}

void Saver::AwaitCopied() {
  const auto start = clock_.Now();
  if (staging_copier_ == nullptr || (snapshotter_ != nullptr && snapshotter_->InWaves())) {
    worker_.AwaitCopied();
  } else if (ticket_ != nullptr) {
    if (auto guarded = staging_copier_->GuardUpdate(); !guarded) ticket_->Spoil();
    ticket_->Unchanged();
    ticket_.reset();
  }
  Stalled(Seconds(clock_.Now() - start));
  ShowStall();
}

void Saver::Stalled(double seconds) {
  run_.stall_seconds += seconds;
  if (update_to_come_) stall_seconds_ += seconds;
}

// The update that the last save held up has been let through, unless that is long ago.
void Saver::ShowStall() {
  if (!update_to_come_) return;
  update_to_come_ = false;
  if (run_.page() != nullptr) run_.page()->stall_ms_bits.store(base::DoubleBits(1e3 * stall_seconds_));
}

void Saver::AwaitCommit(base::Duration patience) {
  worker_.AwaitIdle(patience);
  Report();
}

void Saver::Report() {
  ShowStall();  // a step without a backward pass and without before_update() held nothing up
  // A GPU's stream waits by itself; for how long is known when it has come so far, a step or two later.
  const auto waited = staging_copier_ != nullptr ? staging_copier_->TakeStreamWait() : std::nullopt;
  if (waited) {
    run_.stall_seconds += *waited;
    stall_seconds_ += *waited;
    if (run_.page() != nullptr) run_.page()->stall_ms_bits.store(base::DoubleBits(1e3 * stall_seconds_));
  }
  for (const SaveReport& report : worker_.TakeReports()) {
    if (!report.failure) {
      committed_ = report.step;
      run_.Committed(report.step.value());
      run_.commits.push_back({report.step.value(), report.copy_seconds, report.commit_seconds});
      if (rank_.value() == 0) {
        base::LogInfo(
            "committed",
            {{"step", report.step.value()}, {"copy_seconds", report.copy_seconds}, {"seconds", report.commit_seconds}});
      }
    } else {
      failure_ = report.failure;
      if ((report.here || rank_.value() == 0) && IsNews(failure_->Text())) {
        base::LogError("the save failed; training goes on",
                       {{"step", report.step.value()}, {"reason", failure_->Text()}});
      }
    }
  }
}

base::Result<bool> Saver::SaveAndWait(const Request& request, const Patience& patience) {
  said_.emplace();
  auto saved = SaveUntil(request, patience);
  said_.reset();
  return saved;
}

base::Result<bool> Saver::SaveUntil(const Request& request, const Patience& patience) {
  const auto left = [&] { return std::max<base::Duration>(patience.commit_by - clock_.Now(), base::Duration(0)); };
  for (bool tried = false;;) {
    const bool idle = worker_.AwaitIdle(left());
    Report();
    const bool late = !idle || left() <= base::Duration(0);
    // Every rank has heard of the commit: done. One is too late: all give up.
    BELAY_ASSIGN(const auto committed, run_.AllReduceMin(committed_ == request.step ? 1 : 0));
    if (committed == 1) return true;
    BELAY_ASSIGN(const auto any_late, run_.AllReduceMax(late ? 1 : 0));
    if (any_late == 1) {
      if (rank_.value() == 0) base::LogError("not committed in time", {{"step", request.step.value()}});
      return false;
    }
    if (tried) {
      // It failed for all alike, or for some rank. Where it was committed all the same, the next attempt hears of it.
      const bool give_up = clock_.Now() >= patience.retry_until || (failure_ && !MayMend(failure_->code));
      BELAY_ASSIGN(const auto any_gives_up, run_.AllReduceMax(give_up ? 1 : 0));
      if (any_gives_up == 1) return false;
      clock_.SleepFor(kRetryPause);
    }
    BELAY_ASSIGN(const Begun begun, Start(request));
    tried = begun != Begun::kPostponed;
    if (!tried) clock_.SleepFor(kBusyPause);
  }
}

}  // namespace belay::runtime
