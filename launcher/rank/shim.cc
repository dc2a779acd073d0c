#include "launcher/rank/shim.h"

#include <csignal>
#include <memory>
#include <optional>
#include <thread>
#include <variant>

#include "launcher/protocol/event_queue.h"
#include "launcher/protocol/messages.h"
#include "launcher/rank/memory_kills.h"
#include "launcher/rank/output_capture.h"
#include "runtime/base/fault_points.h"
#include "runtime/base/pipes.h"
#include "runtime/base/shared_memory.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::ControlPage;
using base::Fail;

constexpr base::Duration kProgressPeriod = std::chrono::milliseconds(250);
constexpr base::Duration kStreamsPatience = std::chrono::seconds(2);
// For what the program left running. One that cannot die must not keep the launcher from hearing how the rank ended.
constexpr base::Duration kChildrenPatience = std::chrono::seconds(2);

struct LauncherGone {};
using ShimEvent = std::variant<wire::FromLauncher, LauncherGone, base::ExitEvent>;

wire::Progress ReadPage(const ControlPage& page) {
  wire::Progress progress;
  progress.set_attached(page.attached_pid.load() != 0);
  progress.set_phase(page.phase.load());
  progress.set_step(page.step.load());
  progress.set_total_steps(page.total_steps.load());
  progress.set_committed_step(page.committed_step.load());
  progress.set_resumed_step(page.resumed_step.load());
  progress.set_outcome(page.outcome.load());
  progress.set_loss(base::BitsDouble(page.loss_bits.load()));
  progress.set_samples_per_second(base::BitsDouble(page.samples_per_second_bits.load()));
  progress.set_tokens_per_second(base::BitsDouble(page.tokens_per_second_bits.load()));
  progress.set_stall_ms(base::BitsDouble(page.stall_ms_bits.load()));
  progress.set_data_wait_ms(base::BitsDouble(page.data_wait_ms_bits.load()));
  progress.set_resumed_generation(page.resumed_generation.load());
  progress.set_trust_steps(page.trust_steps.load());
  progress.set_diverged(page.diverged.load() != 0);
  return progress;
}

class Shim {
 public:
  Shim(const ShimSetup& setup, RankPlacement placement, base::Connection& connection, base::SharedControlPage page)
      : setup_(setup),
        placement_(placement),
        connection_(connection),
        page_(std::move(page)),
        outbox_(connection),
        memory_kills_(setup.files, setup.clock) {}

  ~Shim() {
    connection_.Shutdown();  // wakes the reader
  }

  void Run() {
    reader_ = std::jthread([this] { ReadLauncher(); });
    while (!done_) {
      const std::optional<ShimEvent> event = events_.Pop(kProgressPeriod);
      if (event) {
        std::visit([this](const auto& e) { On(e); }, *event);
      }
      SendProgress();
    }
    outbox_.Flush(std::chrono::seconds(5));
  }

 private:
  void ReadLauncher() {
    while (true) {
      base::Result<std::optional<wire::FromLauncher>> message = ReceiveFromLauncher(connection_, std::nullopt);
      if (!message || !*message) break;
      events_.Push(std::move(**message));
    }
    events_.Push(LauncherGone{});
  }

  void On(const wire::FromLauncher& message) {
    switch (message.body_case()) {
      case wire::FromLauncher::kStart:
        return Start(message.start());
      case wire::FromLauncher::kStop:
        return Stop(message.stop());
      case wire::FromLauncher::kKill:
        if (!started_ && !reported_) return ReportNotStarted(128 + SIGKILL, SIGKILL, "killed before it was started");
        return KillProgram();
      case wire::FromLauncher::kRelease:
        done_ = true;
        return;
      default:
        return;  // meant for commands
    }
  }

  void On(const LauncherGone&) {
    KillProgram();
    base::KillAllChildren(kChildrenPatience);
    // Nobody else may be left to clear the attempt's scratch folders; every shim tries.
    if (const auto folders = setup_.environment.find(kScratchVariable); folders != setup_.environment.end()) {
      std::string_view rest = folders->second;
      while (!rest.empty()) {
        const std::string folder(rest.substr(0, rest.find(':')));
        rest.remove_prefix(std::min(rest.size(), folder.size() + 1));
        if (!folder.empty()) base::IgnoreError(base::RemoveTree(setup_.files, folder), "another shim may be at it too");
      }
    }
    // Last, since a sweep finds the others by it; and only if the launcher is really dead: it also ends connections
    // when it gives up an attempt.
    const std::string& socket = setup_.environment.at(kLauncherSocketVariable);
    if (!setup_.transport.Connect(socket, std::chrono::seconds(1))) {
      base::IgnoreError(base::RemoveTree(setup_.files, socket.substr(0, socket.rfind('/'))),
                        "another shim may be at it too");
    }
    done_ = true;
  }

  void On(const base::ExitEvent& exit) {
    running_ = false;
    memory_kills_.Look();
    const bool out_of_memory = memory_kills_.Recent();
    wire::ToLauncher ending;
    ending.mutable_ending()->set_steady_ns(exited_at_ns_.load());
    outbox_.Post(std::move(ending));
    // Whatever the program left running holds its pipes and its memory.
    base::KillAllChildren(kChildrenPatience);
    capture_->Join(kStreamsPatience);
    wire::ToLauncher message;
    wire::Exited& exited = *message.mutable_exited();
    exited.set_status(exit.status);
    exited.set_signal(exit.signal);
    exited.set_out_of_memory(out_of_memory);
    for (const std::string& line : capture_->last_lines()) exited.add_last_lines(line);
    exited.set_steady_ns(exited_at_ns_.load());
    *exited.mutable_progress() = ReadPage(page_.page());
    Report(std::move(message));
  }

  void Start(const wire::Start& start) {
    if (started_ || reported_) return;
    page_.page().grace_seconds = start.grace_seconds();
    base::SpawnRequest request;
    request.argv.assign(start.argv().begin(), start.argv().end());
    request.environment = MakeRankEnvironment(
        setup_.environment, {start.environment().begin(), start.environment().end()}, placement_, setup_.cores);
    request.environment["BELAY_CONTROL_FD"] = base::Str(page_.descriptor());
    request.working_directory = start.working_directory();
    request.inherited = {page_.descriptor()};

    std::string trouble;
    std::unique_ptr<base::File> log;
    std::uint64_t log_bytes = 0;
    if (!start.log_path().empty()) {
      auto opened = setup_.files.Open(start.log_path(), {.mode = base::OpenOptions::Mode::kCreateOrTruncate});
      if (opened)
        log = std::move(*opened);
      else
        trouble = opened.error().Text();
    }
    capture_ = std::make_unique<OutputCapture>(std::move(log), log_bytes, outbox_);
    base::Result<base::Pipe> output = base::MakePipe();
    base::Result<base::Pipe> error = base::MakePipe();
    if (!output || !error) return ReportNotStarted(126, 0, "no pipes for its output");
    request.output = std::move(output->writing);
    request.error = std::move(error->writing);
    memory_kills_.Look();
    const base::Result<pid_t> pid = setup_.spawner.Spawn(std::move(request));
    if (!pid) {
      return ReportNotStarted(pid.error().code == Code::kNotFound ? 127 : 126, 0, pid.error().Text());
    }
    pid_ = *pid;
    started_ = running_ = true;
    base::IgnoreError(base::FaultPoint("rank.after_spawn"), "only kills make sense here");
    capture_->Start(std::move(output->reading), std::move(error->reading));
    waiter_ = std::jthread([this] {
      const base::Result<std::optional<base::ExitEvent>> exit = setup_.spawner.Wait(pid_, std::nullopt);
      exited_at_ns_ = setup_.clock.Now().time_since_epoch().count();
      // Only a bug loses the exit of a child; say what is known.
      events_.Push(exit && *exit ? **exit : base::ExitEvent{pid_, 128 + SIGKILL, SIGKILL});
    });
    wire::ToLauncher message;
    message.mutable_started()->set_pid(pid_);
    outbox_.Post(std::move(message));
    if (!trouble.empty()) {
      wire::ToLauncher note;
      note.mutable_output()->set_text(base::Str("(belay: no log for this rank: ", trouble, ")\n"));
      note.mutable_output()->set_error_stream(true);
      outbox_.Post(std::move(note));
    }
  }

  void Stop(const wire::Stop& stop) {
    page_.page().stop_requested = 1;
    // The launcher asks for SIGTERM when no rank had attached; this one may have since, and then the page is enough.
    if (stop.terminate() && running_ && page_.page().attached_pid.load() == 0) {
      base::IgnoreError(setup_.spawner.SignalGroup(pid_, SIGTERM), "it may have ended meanwhile");
    }
  }

  void KillProgram() {
    if (running_) base::IgnoreError(setup_.spawner.SignalGroup(pid_, SIGKILL), "it may have ended meanwhile");
  }

  void ReportNotStarted(int status, int signal, const std::string& why) {
    wire::ToLauncher message;
    wire::Exited& exited = *message.mutable_exited();
    exited.set_status(status);
    exited.set_signal(signal);
    exited.set_never_started(true);
    exited.set_error(why);
    exited.set_steady_ns(setup_.clock.Now().time_since_epoch().count());
    *exited.mutable_progress() = ReadPage(page_.page());
    Report(std::move(message));
  }

  void Report(wire::ToLauncher message) {
    reported_ = true;
    outbox_.Post(std::move(message));
  }

  void SendProgress() {
    if (!running_) return;
    memory_kills_.Look();
    wire::Progress progress = ReadPage(page_.page());
    std::string bytes = progress.SerializeAsString();
    if (bytes == last_progress_) return;
    last_progress_ = std::move(bytes);
    wire::ToLauncher message;
    *message.mutable_progress() = std::move(progress);
    outbox_.Post(std::move(message));
  }

  const ShimSetup& setup_;
  const RankPlacement placement_;
  base::Connection& connection_;
  base::SharedControlPage page_;
  EventQueue<ShimEvent> events_;
  Outbox outbox_;
  std::unique_ptr<OutputCapture> capture_;
  MemoryKills memory_kills_;
  std::atomic<std::int64_t> exited_at_ns_{0};
  pid_t pid_ = 0;
  bool started_ = false, running_ = false, reported_ = false, done_ = false;
  std::string last_progress_;
  std::jthread waiter_, reader_;  // last: joined first
};

}  // namespace

base::Status RunShim(const ShimSetup& setup) {
  BELAY_ASSIGN(const RankPlacement placement, PlacementFromMpirun(setup.environment));
  const auto socket = setup.environment.find(kLauncherSocketVariable);
  const auto attempt = setup.environment.find(kAttemptVariable);
  if (socket == setup.environment.end() || attempt == setup.environment.end()) {
    return Fail(Code::kLaunchFailed, kLauncherSocketVariable,
                " is not set: belay-rank is started by `belay run`, not by hand");
  }
  BELAY_TRY(base::AdoptOrphans());
  BELAY_TRY(base::FaultPoint("rank.before_register"));
  BELAY_ASSIGN(const std::unique_ptr<base::Connection> connection,
               setup.transport.Connect(socket->second, std::chrono::seconds(10)));
  BELAY_ASSIGN(base::SharedControlPage page, base::SharedControlPage::Create());
  wire::ToLauncher message;
  wire::Register& registration = *message.mutable_registration();
  registration.set_protocol_version(kRankProtocolVersion);
  registration.set_attempt(attempt->second);
  registration.set_rank(placement.rank);
  registration.set_local_rank(placement.local_rank);
  registration.set_local_world_size(placement.local_world_size);
  registration.set_world_size(placement.world_size);
  registration.set_host(setup.host);
  registration.set_pid(setup.pid);
  BELAY_TRY(Send(*connection, message));
  // A launcher that is stopped for a while, by a debugger or for memory, must not cost the training: output is dropped
  // at the outbox, and the launcher's end is seen all the same.
  connection->SendWithoutTimeout();
  Shim(setup, placement, *connection, std::move(page)).Run();
  return {};
}

}  // namespace belay::launcher
