#include "launcher/run/run_loop.h"

#include <csignal>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

#include "launcher/protocol/event_queue.h"
#include "launcher/run/attempt.h"
#include "launcher/run/console.h"
#include "launcher/run/control_server.h"
#include "launcher/run/daemon_link.h"
#include "launcher/run/job_status.h"
#include "launcher/run/judgement.h"
#include "launcher/run/last_run.h"
#include "launcher/run/progress_line.h"
#include "launcher/run/run_beginning.h"
#include "launcher/run/run_directory.h"
#include "launcher/run/run_ending.h"
#include "launcher/run/run_folder.h"
#include "launcher/run/verdict.h"
#include "runtime/base/environment.h"
#include "runtime/base/fault_points.h"
#include "runtime/base/host.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::Fail;
using base::Str;

constexpr base::Duration kIdlePeriod = std::chrono::milliseconds(250);
constexpr int kStderr = 2;

base::Duration Seconds(double seconds) {
  return std::chrono::duration_cast<base::Duration>(std::chrono::duration<double>(seconds));
}

SupervisorConfig MakeConfig(const RunOptions& options) {
  SupervisorConfig config;
  config.world_size = options.ranks;
  config.restarts_max = options.max_restarts;
  config.grace = Seconds(options.grace_seconds);
  config.launch_timeout = Seconds(options.launch_timeout_seconds);
  if (options.timeout_seconds) config.time_limit = Seconds(*options.timeout_seconds);
  return config;
}

ConsoleOptions MakeConsoleOptions(const RunOptions& options) {
  const bool terminal = base::TerminalColumns(kStderr).has_value();
  return {.output_to_stderr = options.json,
          .quiet = options.quiet,
          .live_line = terminal && options.progress != ProgressMode::kNever &&
                       !(options.quiet && options.progress == ProgressMode::kAuto)};
}

struct LoopEvent {
  std::uint64_t attempt = 0;  // 0: of the run as a whole
  Event event = event::Tick{};
  std::string say = "";  // for the user, from a thread that may outlive the loop
  bool daemon_back = false;
};

// What BeginRun granted, on its way from the thread that asked. Shared with that thread, which may outlive the loop.
struct GrantBox {
  std::mutex mutex;
  std::optional<DaemonLink::Grant> grant;  // guarded by mutex
};

class RunLoop {
 public:
  RunLoop(const RunOptions& options, base::SignalWatcher& signals)
      : options_(options),
        signals_(signals),
        console_(MakeConsoleOptions(options)),
        folder_(MakeJobFolder(options.data_dir, options.project, options.job, options.log_dir)),
        events_(std::make_shared<EventQueue<LoopEvent>>()),
        daemon_(std::make_shared<DaemonLink>(
            checkpoint::LocateRequest{
                .data_dir = options.data_dir_given ? std::optional(options.data_dir) : std::nullopt,
                .socket = options.socket.empty() ? std::nullopt : std::optional(options.socket),
                .also_data_dirs = options.also_data_dirs,
                .still_starting =
                    [events = events_](const std::string& words) {
                      events->Push({.say = Str("belay: ", words, "\n")});
                    }},
            checkpoint::JobKey{options.project, options.job})) {}

  base::Result<int> Run();

 private:
  void Do(const action::AskGeneration& a);
  void Do(const action::SpawnMpirun& a);
  void Do(const action::StartProgram& a);
  void Do(const action::StopRank& a);
  void Do(const action::KillRank& a);
  void Do(const action::ReleaseRank& a);
  void Do(const action::JudgeResume& a);
  void Do(const action::CleanUp& a);
  void Do(const action::RestartDaemon& a);
  void Do(const action::Say& a) { console_.Say(a.text); }
  void Do(const action::Report& a);
  void Do(const action::EndAttempt& a);
  void Do(const action::Finish& a);

  void Feed(const LoopEvent& event);
  void Apply(StepResult result);
  void Observe();  // progress line, published status, plain progress lines
  void WatchSignals();
  void WatchDaemon();
  void StopReconnecting();
  void PublishStatus();
  base::Status StartAttempt();
  base::Status WriteLauncherFile(const std::string& run_directory);
  base::Status GoOnIfFull(base::Status status);
  void WriteVerdict(bool restarts);
  std::string VerdictText(bool restarts);
  void SayEnd();
  base::SteadyTime Now() { return base::SystemClock().Now(); }

  const RunOptions& options_;
  base::SignalWatcher& signals_;
  base::FileSystem& files_ = base::PosixFileSystem();
  Console console_;
  const JobFolder folder_;
  std::shared_ptr<EventQueue<LoopEvent>> events_;
  std::shared_ptr<DaemonLink> daemon_;
  SupervisorState state_;
  std::string run_folder_, control_socket_;
  std::uint64_t attempt_number_ = 0;
  std::shared_ptr<Attempt> attempt_;  // also held by a clean-up that outlasts its limit
  DaemonLink::Grant grant_;
  std::shared_ptr<GrantBox> new_grant_ = std::make_shared<GrantBox>();
  std::uint16_t master_port_ = 0;
  base::WallTime started_{}, attempt_started_{};
  base::SteadyTime started_steady_{}, last_plain_progress_{};
  std::optional<std::int64_t> newest_step_;
  StepRate rate_;
  bool reconnecting_ = false;
  std::mutex status_mutex_;
  wire::JobStatus status_;  // guarded by status_mutex_
  std::unique_ptr<ControlServer> server_;
  std::jthread signal_thread_, clean_thread_, begin_thread_, reconnect_thread_;
};

base::Result<int> RunLoop::Run() {
  started_ = attempt_started_ = base::SystemClock().WallNow();
  started_steady_ = Now();
  BELAY_TRY(GoOnIfFull(base::MakeDirectories(files_, folder_.path, 0700)));
  // Before the socket: a second launcher of the job must not take over the file of the first.
  if (const auto record = ReadLauncherRecord(files_, folder_); record) {
    if (base::UnixTransport().Connect(record->socket, std::chrono::seconds(1))) {
      return Fail(Code::kJobBusy, "job ", options_.job, " is already being run by belay (pid ", record->pid, " on ",
                  record->host, "); stop it first: belay stop ", options_.job);
    }
  }
  BELAY_ASSIGN(const std::string runtime_folder, PrivateRuntimeFolder(files_));
  BELAY_ASSIGN(RunFolder run_folder, RunFolder::Make(files_, runtime_folder, base::SystemClock().WallNow()));
  run_folder_ = run_folder.path();
  control_socket_ = run_folder.ControlSocket();
  PublishStatus();
  BELAY_ASSIGN(server_, ControlServer::Listen(base::UnixTransport(), control_socket_, base::UserId(), console_,
                                              {.post =
                                                   [this](std::uint64_t attempt, Event event) {
                                                     events_->Push({attempt, std::move(event)});
                                                   },
                                               .status =
                                                   [this] {
                                                     const std::scoped_lock lock(status_mutex_);
                                                     return status_;
                                                   }}));
  // From here on `belay stop` finds the run, whatever belayd takes its time for.
  BELAY_TRY(GoOnIfFull(WriteLauncherFile("")));
  signal_thread_ = std::jthread([this] { WatchSignals(); });
  Apply(Begin(MakeConfig(options_), Now()));
  while (state_.job != JobState::kDone) {
    base::Duration wait = kIdlePeriod;
    if (const auto deadline = NextDeadline(state_))
      wait = std::clamp(base::Duration(*deadline - Now()), base::Duration::zero(), wait);
    if (const std::optional<LoopEvent> event = events_->Pop(wait)) {
      Feed(*event);
    } else {
      Feed({0, event::Tick{}});
    }
    if (const auto deadline = NextDeadline(state_); deadline && Now() >= *deadline) Feed({0, event::Tick{}});
    Observe();
  }
  signals_.Interrupt();
  signal_thread_.join();
  server_.reset();
  console_.SetLiveLine("");
  while (const auto left = events_->Pop(base::Duration::zero())) {
    if (!left->say.empty()) console_.Raw(left->say);  // said while belayd was told of the end
  }
  SayEnd();
  // A stop between attempts leaves before belayd has answered; these threads own what they use and end with the
  // process.
  StopReconnecting();
  if (begin_thread_.joinable()) begin_thread_.detach();
  if (clean_thread_.joinable()) clean_thread_.detach();
  return state_.verdict.exit_status;
}

void RunLoop::Feed(const LoopEvent& event) {
  if (event.attempt != 0 && event.attempt != attempt_number_) return;  // an echo of an earlier attempt
  if (!event.say.empty()) console_.Raw(event.say);
  if (event.daemon_back) {
    reconnecting_ = false;
    WatchDaemon();
  }
  if (std::holds_alternative<event::Granted>(event.event)) {
    const std::scoped_lock lock(new_grant_->mutex);
    if (new_grant_->grant) grant_ = *new_grant_->grant;
  }
  if (const auto* registered = std::get_if<event::Registered>(&event.event);
      registered != nullptr && attempt_ != nullptr) {
    event::Registered completed = *registered;
    completed.log_path = attempt_->folder().RankLog(registered->rank);
    return Apply(Step(std::move(state_), completed, Now()));
  }
  Apply(Step(std::move(state_), event.event, Now()));
}

void RunLoop::Apply(StepResult result) {
  state_ = std::move(result.state);
  for (const Action& action : result.actions) {
    std::visit([this](const auto& a) { Do(a); }, action);
  }
}

void RunLoop::Do(const action::AskGeneration& a) {
  if (begin_thread_.joinable()) begin_thread_.join();
  rate_.Reset();
  begin_thread_ = std::jthread(
      [box = new_grant_, daemon = daemon_, events = events_, world_size = options_.ranks, continues = a.continues] {
        auto granted = daemon->Begin(world_size, continues);
        if (!granted) return events->Push({0, event::Refused{std::move(granted).error()}});
        const event::Granted answer{granted->generation, granted->newest_step};
        {
          const std::scoped_lock lock(box->mutex);
          box->grant = std::move(*granted);
        }
        events->Push({0, answer});
      });
}

void RunLoop::Do(const action::SpawnMpirun&) {
  base::IgnoreError(base::FaultPoint("run.after_begin_run"), "only kills make sense here");
  StopReconnecting();
  WatchDaemon();
  if (grant_.started_daemon && state_.restarts == 0)
    console_.Say(Str("started a private belayd for ", grant_.data_dir));
  console_.Say(BeginningWords(state_, options_, grant_.suspects, folder_.AttemptPath(state_.generation)));
  if (const base::Status started = StartAttempt(); !started) {
    events_->Push({attempt_number_, event::SpawnFailed{started.error()}});
  }
}

// belayd may yet make room: it has some in reserve for a job whose newest state is in its memory only. The attempt
// writes what is missing now.
base::Status RunLoop::GoOnIfFull(base::Status status) {
  if (status || status.error().code != Code::kNoSpace) return status;
  console_.Say(Str("belay stop and status do not find this run yet: ", status.error().Text()));
  return {};
}

base::Status RunLoop::WriteLauncherFile(const std::string& run_directory) {
  const LauncherRecord record{.pid = base::ProcessId(),
                              .host = base::HostName(),
                              .socket = control_socket_,
                              .generation = state_.generation,
                              .run_directory = run_directory,
                              .started = Rfc3339(started_)};
  return base::WriteFileDurably(files_, folder_.LauncherFile(), EncodeLauncherRecord(record));
}

base::Status RunLoop::StartAttempt() {
  ++attempt_number_;
  attempt_started_ = base::SystemClock().WallNow();
  attempt_ = std::make_shared<Attempt>(Attempt::Setup{.files = files_,
                                                      .spawner = base::PosixProcessSpawner(),
                                                      .options = options_,
                                                      .control_socket = control_socket_,
                                                      .run_folder = run_folder_,
                                                      .number = attempt_number_,
                                                      .run_directory = folder_.AttemptPath(state_.generation)});
  BELAY_ASSIGN(master_port_, base::FreeTcpPort());
  BELAY_TRY(base::MakeDirectories(files_, attempt_->folder().path, 0700));
  if (const base::Status written = WriteLauncherFile(attempt_->folder().path); !written) {
    console_.Say(Str("belay stop and status still show the attempt before: ", written.error().Text()));
  }
  if (const base::Status written = base::WriteFileDurably(files_, attempt_->folder().RunFile(), VerdictText(false));
      !written) {  // a full disk is no reason not to train on
    console_.Say(Str("no run.json: ", written.error().Text()));
  }
  if (const base::Status written =
          WriteLastRun(files_, folder_, {.generation = state_.generation, .run_directory = attempt_->folder().path});
      !written) {
    console_.Say(Str("belay status and logs will want --log-dir if it was given: ", written.error().Text()));
  }
  server_->OpenAttempt(attempt_number_, attempt_->mark(), options_.ranks);
  BELAY_TRY(base::FaultPoint("run.before_spawn"));
  return attempt_->Start([events = events_, number = attempt_number_](event::MpirunExited exit) {
    events->Push({number, exit});
  });
}

void RunLoop::Do(const action::StartProgram& a) {
  wire::FromLauncher message;
  wire::Start& start = *message.mutable_start();
  for (const std::string& word : options_.program) start.add_argv(word);
  const auto variables = JobEnvironment(options_,
                                        {.socket = grant_.socket,
                                         .data_dir = grant_.data_dir,
                                         .run_directory = attempt_->folder().path,
                                         .generation = state_.generation.value(),
                                         .restarts = state_.restarts,
                                         .master_port = master_port_},
                                        base::WholeEnvironment());
  for (const auto& [name, value] : variables) (*start.mutable_environment())[name] = value;
  start.set_working_directory(options_.working_directory);
  start.set_log_path(attempt_->folder().RankLog(a.rank));
  start.set_grace_seconds(static_cast<std::uint32_t>(options_.grace_seconds));
  server_->Send(a.rank, message);
}

void RunLoop::Do(const action::StopRank& a) {
  wire::FromLauncher message;
  message.mutable_stop()->set_terminate(a.terminate);
  server_->Send(a.rank, message);
}

void RunLoop::Do(const action::KillRank& a) {
  wire::FromLauncher message;
  message.mutable_kill();
  server_->Send(a.rank, message);
}

void RunLoop::Do(const action::ReleaseRank& a) {
  wire::FromLauncher message;
  message.mutable_release();
  server_->Send(a.rank, message);
}

void RunLoop::Do(const action::CleanUp&) {
  server_->CloseAttempt();
  if (attempt_ == nullptr) return events_->Push({0, event::CleanedUp{}});
  // One that hangs (a program in an uninterruptible system call) must not hold up the end of the run.
  if (clean_thread_.joinable()) clean_thread_.detach();
  clean_thread_ = std::jthread([attempt = attempt_, number = attempt_number_, events = events_] {
    events->Push({number, attempt->Clean()});
  });
}

void RunLoop::Do(const action::JudgeResume& a) {
  daemon_->Judge(VerdictOn(a, {options_.project, options_.job}, state_.generation,
                           [events = events_](std::string words) { events->Push({.say = std::move(words)}); }));
  // Failures are told on the way to the next generation, or to the end.
  if (a.fate == ResumeFate::kProved) std::thread([daemon = daemon_] { daemon->Tell(); }).detach();
}

void RunLoop::WatchDaemon() {
  daemon_->Watch([events = events_] { events->Push({0, event::DaemonGone{}}); });
}

void RunLoop::Do(const action::RestartDaemon&) {
  if (state_.job == JobState::kRenewing) return;      // Begin finds or starts one by itself
  if (reconnecting_ || daemon_->Connected()) return;  // old news
  console_.Say("belayd has gone; starting it again. Training goes on, and committed checkpoints are safe");
  StopReconnecting();
  reconnecting_ = true;
  reconnect_thread_ = std::jthread([daemon = daemon_, events = events_](const std::stop_token& stop) {
    const auto trouble = [&](const base::Error& error) {
      if (JobIsTaken(error.code)) {
        return events->Push({.say = Str("belay: this run can save no more: ", error.Text(), "\n")});
      }
      events->Push({.say = Str("belay: no belayd: ", error.Text(),
                               "; training goes on without new checkpoints, and belay goes on trying\n")});
    };
    if (daemon->KeepReconnecting(stop, trouble)) events->Push({.say = "belay: belayd is back\n", .daemon_back = true});
  });
}

// The thread owns what it uses, and leaves as soon as it hears of this.
void RunLoop::StopReconnecting() {
  reconnecting_ = false;
  reconnect_thread_.request_stop();
  if (reconnect_thread_.joinable()) reconnect_thread_.detach();
}

void RunLoop::Do(const action::Report& a) {
  std::string text = RenderFailureReport(a.report, a.next);
  const bool quote =
      a.report.failure_class == FailureClass::kLaunch || a.report.failure_class == FailureClass::kMpirunLost;
  // There are none if mpirun was never started.
  if (quote && attempt_ != nullptr) {
    for (const std::string& line : attempt_->MpirunWords()) text += Str("         | ", line, "\n");
  }
  console_.Raw(std::move(text));
}

void RunLoop::Do(const action::EndAttempt& a) {
  if (a.restarts) WriteVerdict(true);
}

void RunLoop::Do(const action::Finish& a) {
  const char* const outcome = a.verdict.outcome == Outcome::kDone        ? "done"
                              : a.verdict.outcome == Outcome::kPreempted ? "preempted"
                                                                         : "failed";
  newest_step_ = DaemonLink::End(daemon_, state_.generation, outcome, std::chrono::seconds(5));
  if (attempt_ != nullptr) WriteVerdict(false);
  if (const auto record = ReadLauncherRecord(files_, folder_); record && record->socket == control_socket_) {
    base::IgnoreError(files_.Remove(folder_.LauncherFile()), "a stale file is found out by its socket");
  }
  if (attempt_ == nullptr) base::IgnoreError(files_.RemoveDirectory(folder_.path), "stays if anything is in it");
}

std::string RunLoop::VerdictText(bool restarts) {
  return EncodeVerdict(state_, {.project = options_.project,
                                .job = options_.job,
                                .run_directory = attempt_ != nullptr ? attempt_->folder().path : std::string(),
                                .data_dir = grant_.data_dir,
                                .socket = grant_.socket,
                                .program = options_.program,
                                .started = restarts ? attempt_started_ : started_,
                                .ended = base::SystemClock().WallNow(),
                                .newest_step = newest_step_,
                                .restarts = restarts,
                                .resume_command = ResumeCommand(options_)});
}

void RunLoop::WriteVerdict(bool restarts) {
  if (const base::Status written =
          base::WriteFileDurably(files_, attempt_->folder().VerdictFile(), VerdictText(restarts));
      !written) {
    console_.Say(Str("no verdict.json: ", written.error().Text()));
  }
}

void RunLoop::SayEnd() {
  for (std::string& line :
       EndingWords(state_, options_, newest_step_, std::chrono::duration<double>(Now() - started_steady_).count())) {
    console_.Raw(std::move(line));
  }
  if (options_.json) console_.Result(VerdictText(false));
}

void RunLoop::PublishStatus() {
  wire::JobStatus status =
      MakeJobStatus(state_, options_, attempt_ != nullptr ? attempt_->folder().path : std::string(),
                    std::chrono::duration<double>(Now() - started_steady_).count(), base::ProcessId());
  const std::scoped_lock lock(status_mutex_);
  status_ = std::move(status);
}

void RunLoop::Observe() {
  if (const auto step = CommonStep(state_)) rate_.Observe(*step, Now());
  PublishStatus();
  const int columns = base::TerminalColumns(kStderr).value_or(200);
  if (base::TerminalColumns(kStderr)) {
    console_.SetLiveLine(ProgressLine(state_, rate_.per_second(), columns));
  } else if (options_.progress == ProgressMode::kAlways && Now() - last_plain_progress_ >= std::chrono::seconds(5)) {
    last_plain_progress_ = Now();
    if (const std::string line = ProgressLine(state_, rate_.per_second(), columns); !line.empty())
      console_.Raw(Str("belay: ", line, "\n"));
  }
}

void RunLoop::WatchSignals() {
  while (true) {
    const auto signal = signals_.Next(std::nullopt);
    if (!signal || !*signal) return;
    if (**signal == SIGTSTP) {
      console_.Say(
          "a run cannot be suspended: the ranks would wait for each other. Ctrl-C stops it with everything saved");
      continue;
    }
    events_->Push({0, event::StopAsked{SignalName(**signal), **signal == SIGINT, false}});
  }
}

}  // namespace

base::Result<base::SignalWatcher> WatchRunSignals() {
  return base::SignalWatcher::Create({SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGTSTP});
}

base::Result<int> RunJob(const RunOptions& options, base::SignalWatcher& signals) {
  return RunLoop(options, signals).Run();
}

}  // namespace belay::launcher
