#include "launcher/supervise/supervisor.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include "launcher/supervise/restart_policy.h"
#include "launcher/supervise/run_failure.h"
#include "launcher/supervise/stop_verdict.h"
#include "runtime/base/check.h"
#include "runtime/base/exit_status.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::ExitStatus;
using base::SteadyTime;
using base::Str;

constexpr int kPreempted = static_cast<int>(base::kExitPreempted);
constexpr int kGraceExpired = static_cast<int>(ExitStatus::kGraceExpired);
constexpr int kInterruptedStatus = 128 + SIGINT;

// A program that knows nothing of belay, or not yet: ended by a stop's SIGTERM, belay's or that of a scheduler which
// signals every process itself.
bool EndedByStop(const RankRecord& rank) {
  return rank.told_to_stop && !rank.progress.attached && rank.exit &&
         (rank.exit->signal == SIGTERM || rank.exit->status == 128 + SIGTERM || rank.exit->status == 0);
}

bool AnyLost(const std::vector<RankRecord>& ranks) {
  return std::ranges::any_of(ranks, [](const RankRecord& r) { return r.state == RankState::kLost; });
}

// One Step: the state being changed, and what comes out.
class Machine {
 public:
  Machine(SupervisorState state, SteadyTime now) : s_(std::move(state)), now_(now) {}

  void Begin();
  void On(const event::Granted& e);
  void On(const event::Refused& e);
  void On(const event::Registered& e);
  void On(const event::Started& e);
  void On(const event::Progress& e);
  void On(const event::Exited& e);
  void On(const event::Lost& e);
  void On(const event::SpawnFailed& e);
  void On(const event::MpirunExited& e);
  void On(const event::StopAsked& e);
  void On(const event::CleanedUp& e);
  void On(const event::DaemonGone& e);
  void On(const event::Tick& e);

  StepResult Take() && { return {std::move(s_), std::move(actions_), std::move(reason_)}; }

 private:
  template <typename A>
  void Do(A action) {
    actions_.emplace_back(std::move(action));
  }
  void Say(std::string text) { Do(action::Say{std::move(text)}); }
  void Go(JobState to, std::string why, std::optional<base::Duration> limit = std::nullopt);

  RankRecord* Find(std::int32_t rank);
  bool All(RankState state) const;
  bool NobodyLeft() const {  // no shim that is known of is at work; some may never have called
    return std::ranges::none_of(s_.ranks, [](const RankRecord& r) {
      return r.state == RankState::kAlive || r.state == RankState::kRegistered;
    });
  }
  bool AllGone() const { return std::ranges::all_of(s_.ranks, &RankRecord::Gone); }
  bool Past(const std::optional<SteadyTime>& time) const { return time && now_ >= *time; }

  void RankGone(RankRecord& rank);
  void GiveUpStarting();
  void Fail(const std::string& why);   // to kSettling
  void FailRun(FailureReport report);  // no rank to blame: straight to kKilling
  void Settled();                      // kSettling -> kKilling, with the report
  void Stop(std::string source);       // kRunning -> kStopping
  void Terminate();
  void Kill(std::string why);         // any -> kKilling
  void Release(std::string why);      // all ended -> kReleasing
  void Clean(std::string why);        // -> kCleaning
  void Finish();                      // -> kDone
  void SetVerdict(Verdict verdict) {  // the first one counts
    if (s_.verdict.outcome == Outcome::kNone) s_.verdict = std::move(verdict);
  }
  void SetVerdict(Outcome outcome, int status, std::string reason) { SetVerdict({outcome, status, std::move(reason)}); }
  RestartDecision Decide(FailureFacts facts) const;
  std::string Cause() const;  // of s_.failure
  void AnnounceFailure(const RestartDecision& decision, std::optional<ResumeFate> fate = std::nullopt);
  void JudgeResume(ResumeFate fate, std::string reason);

  SupervisorState s_;
  SteadyTime now_;
  std::vector<Action> actions_;
  std::string reason_;
};

void Machine::Go(JobState to, std::string why, std::optional<base::Duration> limit) {
  BELAY_CHECK(MayFollow(s_.job, to), "no transition from ", Name(s_.job), " to ", Name(to), ": ", why);
  s_.job = to;
  reason_ = std::move(why);
  s_.deadline = limit ? std::optional(now_ + *limit) : std::nullopt;
}

RankRecord* Machine::Find(std::int32_t rank) {
  return rank >= 0 && rank < static_cast<std::int32_t>(s_.ranks.size()) ? &s_.ranks[rank] : nullptr;
}

bool Machine::All(RankState state) const {
  return std::ranges::all_of(s_.ranks, [&](const RankRecord& r) { return r.state == state; });
}

void Machine::Begin() {
  if (s_.config.time_limit) s_.time_limit_at = now_ + *s_.config.time_limit;
  Do(action::AskGeneration{});
}

void Machine::On(const event::Granted& e) {
  if (s_.job != JobState::kRenewing) return;
  s_.generation = e.generation;
  s_.resume_step = e.newest_step;
  s_.ranks.assign(s_.config.world_size, {});
  for (std::int32_t i = 0; i < s_.config.world_size; ++i) s_.ranks[i].rank = i;
  s_.failure.reset();
  s_.will_restart = false;
  s_.resume_judged = false;
  s_.terminate_at.reset();
  s_.stop_while_settling = false;
  if (s_.stop_requested) return Finish();
  s_.mpirun_alive = true;
  Do(action::SpawnMpirun{});
  Go(JobState::kStarting, Str("generation ", e.generation, " granted"), s_.config.launch_timeout);
}

void Machine::On(const event::Refused& e) {
  if (s_.job != JobState::kRenewing) return;
  // What the attempt before died of has been reported; the run ends because there cannot be a next one.
  const std::string before = s_.failure ? Str(Cause(), ", and the run cannot restart: ") : std::string();
  s_.failure.reset();
  SetVerdict(Outcome::kFailed, static_cast<int>(base::Describe(e.error.code).exit_status), before + e.error.Text());
  Finish();
}

void Machine::On(const event::Registered& e) {
  RankRecord* rank = Find(e.rank);
  if (rank == nullptr || rank->state != RankState::kAbsent) return;
  rank->local_rank = e.local_rank;
  rank->host = e.host;
  rank->shim_pid = e.shim_pid;
  rank->log_path = e.log_path;
  rank->state = RankState::kRegistered;
  if (s_.job == JobState::kKilling) {  // it came too late
    rank->killed_by_us = true;
    return Do(action::KillRank{e.rank});
  }
  if (s_.job != JobState::kStarting || !All(RankState::kRegistered)) return;
  for (RankRecord& r : s_.ranks) {
    r.state = RankState::kAlive;
    Do(action::StartProgram{r.rank});
  }
  s_.programs_started = now_;
  Go(JobState::kRunning, "every rank registered");
}

void Machine::On(const event::Started& e) {
  if (RankRecord* rank = Find(e.rank)) rank->pid = e.pid;
}

void Machine::On(const event::Progress& e) {
  if (RankRecord* rank = Find(e.rank); rank != nullptr && !rank->Gone()) rank->progress = e.progress;
  if (!s_.resume_judged && ResumeProved(s_.ranks)) JudgeResume(ResumeFate::kProved, "");
  // A rank may have attached just before the SIGTERM, and say so only now.
  if (s_.job == JobState::kStopping) GiveUpStarting();
}

void Machine::On(const event::Exited& e) {
  RankRecord* rank = Find(e.rank);
  if (rank == nullptr || rank->Gone()) return;
  rank->state = RankState::kEnded;
  rank->exit = e.exit;
  rank->ended_at = e.at;
  RankGone(*rank);
}

void Machine::On(const event::Lost& e) {
  RankRecord* rank = Find(e.rank);
  if (rank == nullptr || rank->Gone()) return;
  rank->state = RankState::kLost;
  rank->ended_at = now_;
  RankGone(*rank);
}

// What the end of one rank means for the run.
void Machine::RankGone(RankRecord& rank) {
  switch (s_.job) {
    case JobState::kStarting:
      // mpirun's own end says more (it kills the others when it cannot start one), and comes within a moment.
      s_.deadline = std::min(*s_.deadline, now_ + s_.config.settle * 4);
      return;
    case JobState::kRunning:
    case JobState::kStopping:
      break;
    case JobState::kSettling:
      if (AllGone()) Settled();
      return;
    case JobState::kKilling:
      if (NobodyLeft()) Clean("every program is gone");
      return;
    default:
      return;
  }
  if (Failed(rank) && !EndedByStop(rank)) return Fail(Str("rank ", rank.rank, " failed"));
  if (rank.progress.SaidSaved() && !(rank.exit && rank.exit->signal == 0)) {
    Say(Str("rank ", rank.rank, " ", DescribeEnd(rank), " while it was leaving; everything had been saved"));
  }
  if (s_.job == JobState::kRunning && (LeftSaved(rank) || LeftUnsaved(rank))) {
    // The program learned of the preemption by itself; the others must follow within the grace period.
    Stop(Str("rank ", rank.rank, ", which ",
             rank.exit && rank.exit->signal == 0 ? Str("left with status ", rank.exit->status)
                                                 : std::string("had saved and left")));
  }
  if (AllGone()) {
    if (s_.job == JobState::kStopping) {
      SetVerdict(VerdictOfStop(s_));
      return Release("every rank left after the stop");
    }
    SetVerdict(Outcome::kDone, 0, "every rank finished");
    return Release("every rank ended well");
  }
  GiveUpStarting();
}

// Some ranks have a Session, one was ended before it had its own: the others wait for it in vain, and no step was done.
void Machine::GiveUpStarting() {
  if (!std::ranges::any_of(s_.ranks, EndedByStop) || !s_.AnyAttached() || s_.StepsDone() > 0) return;
  SetVerdict(Outcome::kPreempted, kPreempted, "stopped while it was starting: no step was lost");
  Kill("a rank ended before it had a session");
}

void Machine::Fail(const std::string& why) {
  Go(JobState::kSettling, why, s_.config.settle);
  if (AllGone()) Settled();
}

RestartDecision Machine::Decide(FailureFacts facts) const {
  facts.steps_done = s_.StepsDone();
  facts.restarts_used = s_.restarts;
  facts.restarts_max = s_.config.restarts_max;
  // One that comes while a failure settles must end like one a moment later, when the restart is decided already.
  facts.stop_requested = s_.stop_requested && !s_.stop_while_settling;
  return DecideRestart(facts);
}

std::string Machine::Cause() const {
  const FailureReport& failure = *s_.failure;
  return failure.first.rank >= 0 ? Str("rank ", failure.first.rank, " ", failure.what) : failure.what;
}

void Machine::AnnounceFailure(const RestartDecision& decision, std::optional<ResumeFate> fate) {
  s_.will_restart = decision.restart && !s_.stop_requested;
  std::string next = decision.why;
  const std::int64_t committed = std::max(s_.CommittedStep(), s_.resume_step.value_or(-1));
  if (!decision.restart) {
    SetVerdict(Outcome::kFailed, s_.failure->status, Cause());
    next += Str("; the run exits with status ", s_.failure->status);
  } else if (!s_.will_restart) {  // VerdictBetweenAttempts says how it ended
    next = Str("not restarted: stopping on ", s_.stop_source);
    if (committed >= 0) next += Str("; the checkpoint of step ", committed, " stands");
  } else if (fate == ResumeFate::kDiverged) {
    next += ", from an older checkpoint, if there is one";
  } else {
    next += committed >= 0 ? Str(", from the checkpoint of step ", committed,
                                 fate ? " or, if that fails runs twice, an older one" : " or a newer one")
                           : std::string(", from the beginning unless a checkpoint is being committed");
  }
  Do(action::Report{*s_.failure, std::move(next)});
}

void Machine::JudgeResume(ResumeFate fate, std::string reason) {
  s_.resume_judged = true;
  Do(action::JudgeResume{*ResumedFrom(s_.ranks), fate, std::move(reason)});
}

void Machine::Settled() {
  s_.failure = MakeFailureReport(s_.ranks);
  const RankRecord& first = s_.failure->first;
  const auto fate = s_.resume_judged || s_.stop_requested ? std::nullopt : FateAfter(*s_.failure, s_.ranks);
  AnnounceFailure(Decide({.status = s_.failure->status,
                          .by_signal = first.state == RankState::kLost || first.exit->signal != 0,
                          .never_started = first.exit && first.exit->never_started,
                          .attached = s_.AnyAttached(),
                          .resumed = fate.has_value()}),
                  fate);
  if (fate) JudgeResume(*fate, Cause());
  Kill("the rest goes down with the failed rank");
}

void Machine::FailRun(FailureReport report) {
  s_.failure = std::move(report);
  const bool launch = s_.failure->failure_class == FailureClass::kLaunch;
  AnnounceFailure(launch ? RestartDecision{false, "not restarted: the ranks could not be launched"}
                         : Decide({.status = s_.failure->status, .by_signal = true}));
  Kill(s_.failure->what);
}

void Machine::Stop(std::string source) {
  s_.stop_requested = true;
  s_.stop_source = std::move(source);
  for (RankRecord& rank : s_.ranks) {
    if (rank.Gone()) continue;
    rank.told_to_stop = true;
    Do(action::StopRank{rank.rank, false});
  }
  Go(JobState::kStopping, Str("stop asked for by ", s_.stop_source), s_.config.grace);
  // A program that was started a moment ago may yet attach and leave in order; an older one knows nothing of belay.
  s_.terminate_at = std::min(s_.programs_started + s_.config.attach_patience, now_ + s_.config.grace / 2);
  if (Past(s_.terminate_at)) Terminate();
}

// SIGTERM is the notice that a program without belay understands.
void Machine::Terminate() {
  s_.terminate_at.reset();
  // If any rank has a Session this is a program that stops at a step border; SIGTERM would only kill the slow starters.
  if (s_.AnyAttached()) return;
  for (const RankRecord& rank : s_.ranks) {
    if (!rank.Gone()) Do(action::StopRank{rank.rank, true});
  }
}

void Machine::Kill(std::string why) {
  for (RankRecord& rank : s_.ranks) {
    if (rank.state != RankState::kAlive && rank.state != RankState::kRegistered) continue;
    rank.killed_by_us = true;
    Do(action::KillRank{rank.rank});
  }
  Go(JobState::kKilling, std::move(why), s_.config.kill_timeout);
  if (NobodyLeft()) Clean(reason_);
}

void Machine::Release(std::string why) {
  for (const RankRecord& rank : s_.ranks) {
    if (rank.state == RankState::kEnded) Do(action::ReleaseRank{rank.rank});
  }
  Go(JobState::kReleasing, std::move(why), s_.config.release_timeout);
  if (!s_.mpirun_alive) Clean("mpirun has ended");
}

void Machine::Clean(std::string why) {
  Do(action::CleanUp{});
  Go(JobState::kCleaning, std::move(why), s_.config.clean_timeout);
}

void Machine::Finish() {
  // Only a stop ends a run that has no verdict by itself: before its programs ran, or between two attempts.
  SetVerdict(VerdictBetweenAttempts(s_));
  Do(action::Finish{s_.verdict});
  Go(JobState::kDone, s_.verdict.reason);
}

void Machine::On(const event::SpawnFailed& e) {
  if (s_.job != JobState::kStarting || !s_.mpirun_alive) return;
  s_.mpirun_alive = false;
  FailRun(SpawnFailure(e.error, s_.ranks));
}

void Machine::On(const event::MpirunExited& e) {
  if (!s_.mpirun_alive) return;
  s_.mpirun_alive = false;
  switch (s_.job) {
    case JobState::kStarting:
      if (AnyLost(s_.ranks) && e.signal == 0 && e.status > 128) return FailRun(ShimLostAtStart(s_.ranks));
      return FailRun(MpirunEndedAtStart(e.signal, e.status, s_.ranks));
    case JobState::kSettling:
      if (e.signal == 0) return;  // a failing rank takes mpirun along, not the other way round
      [[fallthrough]];
    case JobState::kRunning:
    case JobState::kStopping:
      return FailRun(MpirunEndedUnderTheRun(e.signal, e.status, s_.ranks));
    case JobState::kReleasing:
      return Clean("mpirun has ended");
    default:
      return;
  }
}

void Machine::On(const event::StopAsked& e) {
  const bool again = s_.stop_requested;
  const bool kill = e.now || (e.interrupt && s_.interrupted);
  s_.interrupted |= e.interrupt;
  switch (s_.job) {
    case JobState::kDone:
      return;
    case JobState::kRunning:
      if (!kill) {
        Say(Str("stopping on ", e.source, ": the ranks finish their step and save, within ",
                std::chrono::duration_cast<std::chrono::seconds>(s_.config.grace).count(), " s"));
        return Stop(e.source);
      }
      break;
    case JobState::kStopping:
      if (!kill) return;
      break;
    case JobState::kStarting:
      s_.stop_requested = true;
      s_.stop_source = e.source;
      if (kill) SetVerdict(Outcome::kInterrupted, kInterruptedStatus, Str("killed by ", e.source));
      return Kill("stopped before any program was started");
    default:
      // Already on the way down: no restart after this one.
      if (!again) {
        s_.stop_while_settling = s_.job == JobState::kSettling;
        s_.stop_requested = true;
        s_.stop_source = e.source;
        if (s_.will_restart || s_.job == JobState::kRenewing) Say(Str("stopping on ", e.source, ": no restart"));
      }
      s_.will_restart = false;
      if (kill && s_.verdict.outcome == Outcome::kNone) {
        SetVerdict(Outcome::kInterrupted, kInterruptedStatus, Str("killed by ", e.source));
      }
      if (s_.job == JobState::kRenewing) Finish();
      return;
  }
  s_.stop_requested = true;
  if (s_.stop_source.empty()) s_.stop_source = e.source;
  SetVerdict(Outcome::kInterrupted, kInterruptedStatus, Str("killed by ", e.source, " without waiting for a save"));
  Kill("killed on request");
}

void Machine::On(const event::CleanedUp& e) {
  if (s_.job != JobState::kCleaning) return;
  s_.mpirun_alive = false;
  if (e.surviving > 0)
    Say(Str(e.surviving, " processes of the run could not be killed (stuck in the kernel?); they hold memory"));
  const bool restart = s_.will_restart && !s_.stop_requested;
  Do(action::EndAttempt{restart});
  if (!restart) return Finish();
  ++s_.restarts;
  Do(action::AskGeneration{s_.generation});
  Go(JobState::kRenewing, "the run restarts");
}

void Machine::On(const event::DaemonGone&) {
  if (s_.job == JobState::kDone) return;
  Do(action::RestartDaemon{});
}

void Machine::On(const event::Tick&) {
  if (s_.job == JobState::kRunning && Past(s_.time_limit_at)) {
    s_.time_limit_at.reset();
    Say("stopping: the run's --timeout has passed");
    return Stop("--timeout");
  }
  if (s_.job == JobState::kStopping && Past(s_.terminate_at)) Terminate();
  if (!Past(s_.deadline)) return;
  switch (s_.job) {
    case JobState::kStarting:
      return FailRun(AnyLost(s_.ranks) ? ShimLostAtStart(s_.ranks) : LaunchTimeout(s_.config.launch_timeout, s_.ranks));
    case JobState::kStopping:
      // A rank may hang long after its part is done, in the teardown of NCCL or MPI.
      if (auto saved = VerdictOfGraceExpired(s_)) SetVerdict(std::move(*saved));
      SetVerdict(Outcome::kStoppedUnsaved, kGraceExpired,
                 Str("the ranks did not leave within the grace period of ",
                     std::chrono::duration_cast<std::chrono::seconds>(s_.config.grace).count(),
                     " s and were killed; --grace gives them longer"));
      return Kill("the grace period expired");
    case JobState::kSettling:
      return Settled();
    case JobState::kKilling:
      return Clean("some ranks did not answer in time");
    case JobState::kReleasing:
      return Clean("mpirun did not end by itself");
    case JobState::kCleaning:
      return On(event::CleanedUp{0, 1});
    default:
      return;
  }
}

}  // namespace

StepResult Begin(const SupervisorConfig& config, SteadyTime now) {
  BELAY_CHECK(config.world_size > 0, "a run has at least one rank");
  SupervisorState state;
  state.config = config;
  Machine machine(std::move(state), now);
  machine.Begin();
  return std::move(machine).Take();
}

StepResult Step(SupervisorState state, const Event& event, SteadyTime now) {
  Machine machine(std::move(state), now);
  std::visit([&](const auto& e) { machine.On(e); }, event);
  return std::move(machine).Take();
}

}  // namespace belay::launcher
