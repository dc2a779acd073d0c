#include "launcher/run/control_server.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <system_error>

#include "launcher/run/job_status.h"
#include "runtime/base/clock.h"
#include "runtime/base/fault_points.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

constexpr base::Duration kFirstMessagePatience = std::chrono::seconds(10);
constexpr base::Duration kAcceptPause = std::chrono::milliseconds(100);
// A shim gives the output 2 s after its program's end.
constexpr base::Duration kEarlierEndPatience = std::chrono::seconds(3);

}  // namespace

base::Result<std::unique_ptr<ControlServer>> ControlServer::Listen(base::Transport& transport, const std::string& path,
                                                                   std::uint32_t uid, Console& console, Hooks hooks) {
  BELAY_ASSIGN(std::unique_ptr<base::Listener> listener, transport.Listen(path));
  return std::unique_ptr<ControlServer>(new ControlServer(std::move(listener), uid, console, std::move(hooks)));
}

ControlServer::ControlServer(std::unique_ptr<base::Listener> listener, std::uint32_t uid, Console& console, Hooks hooks)
    : listener_(std::move(listener)), uid_(uid), console_(console), hooks_(std::move(hooks)), acceptor_([this] {
        Accept();
      }) {}

ControlServer::~ControlServer() {
  std::vector<Reader> readers;
  {
    const std::scoped_lock lock(mutex_);
    ending_ = true;
    for (const auto& weak : open_) {
      if (const auto connection = weak.lock()) connection->Shutdown();
    }
  }
  end_told_.notify_all();
  listener_->Shutdown();
  acceptor_.join();
  {
    const std::scoped_lock lock(mutex_);
    readers.swap(readers_);
    for (const auto& weak : open_) {
      if (const auto connection = weak.lock()) connection->Shutdown();
    }
  }
  readers.clear();  // joins; outside the lock, which the readers take on their way out
}

void ControlServer::Accept() {
  bool trouble = false;
  while (true) {
    auto accepted = listener_->Accept();
    Reap();
    if (!accepted) {
      // Out of descriptors, most likely. Those that are here go on, and when some of them leave there is room again.
      if (!trouble) console_.Raw(base::Str("belay: cannot take calls for now: ", accepted.error().Text(), "\n"));
      trouble = true;
      base::SystemClock().SleepFor(kAcceptPause);
      const std::scoped_lock lock(mutex_);
      if (ending_) return;
      continue;
    }
    if (!*accepted) return;
    trouble = false;
    const std::shared_ptr<base::Connection> connection(std::move(**accepted));
    // The folder is private to us, so only root gets here as somebody else.
    if (connection->PeerIdentity().uid != uid_ && connection->PeerIdentity().uid != 0) continue;
    StartReader(connection);
  }
}

void ControlServer::StartReader(const std::shared_ptr<base::Connection>& connection) {
  const std::scoped_lock lock(mutex_);
  if (ending_) return;
  std::erase_if(open_, [](const auto& weak) { return weak.expired(); });
  open_.push_back(connection);
  const auto done = std::make_shared<std::atomic<bool>>(false);
  try {
    std::jthread thread([this, connection, done] {
      Serve(connection);
      *done = true;
    });
    readers_.push_back({std::move(thread), done});
  } catch (const std::system_error& error) {  // no thread to be had: this caller is turned away
    console_.Raw(base::Str("belay: a call was turned away: no thread for it: ", error.what(), "\n"));
  }
}

// A command that asks again and again (belay logs -f) must not leave a thread each time.
void ControlServer::Reap() {
  std::vector<Reader> finished;
  const std::scoped_lock lock(mutex_);
  const auto gone =
      std::partition(readers_.begin(), readers_.end(), [](const Reader& reader) { return !*reader.done; });
  std::move(gone, readers_.end(), std::back_inserter(finished));
  readers_.erase(gone, readers_.end());
}

void ControlServer::OpenAttempt(std::uint64_t attempt, const std::string& mark, std::int32_t world_size) {
  const std::scoped_lock lock(mutex_);
  attempt_ = attempt;
  mark_ = mark;
  world_size_ = world_size;
  shims_.clear();
  ends_to_tell_.clear();
  end_told_.notify_all();
}

void ControlServer::CloseAttempt() {
  const std::scoped_lock lock(mutex_);
  for (const auto& [rank, connection] : shims_) connection->Shutdown();
  shims_.clear();
  mark_.clear();
  ends_to_tell_.clear();
  end_told_.notify_all();
}

void ControlServer::NoteEnding(std::uint64_t attempt, std::int32_t rank, std::int64_t steady_ns) {
  const std::scoped_lock lock(mutex_);
  if (attempt == attempt_ && !mark_.empty()) ends_to_tell_[rank] = steady_ns;
}

// Whoever goes down with the first rank must not be told of before it, only because its log is the quicker one: the
// supervisor waits a moment for other ends, but not as long as a slow log takes.
void ControlServer::AwaitEarlierEnds(std::uint64_t attempt, std::int32_t rank, std::int64_t steady_ns) {
  std::unique_lock lock(mutex_);
  end_told_.wait_for(lock, kEarlierEndPatience, [&] {
    return ending_ || attempt != attempt_ || std::ranges::none_of(ends_to_tell_, [&](const auto& other) {
             return other.first != rank && other.second < steady_ns;
           });
  });
}

void ControlServer::ForgetEnding(std::uint64_t attempt, std::int32_t rank) {
  {
    const std::scoped_lock lock(mutex_);
    if (attempt == attempt_) ends_to_tell_.erase(rank);
  }
  end_told_.notify_all();
}

void ControlServer::Send(std::int32_t rank, const wire::FromLauncher& message) {
  std::shared_ptr<base::Connection> connection;
  {
    const std::scoped_lock lock(mutex_);
    const auto it = shims_.find(rank);
    if (it == shims_.end()) return;
    connection = it->second;
  }
  base::IgnoreError(launcher::Send(*connection, message), "the reader reports a broken connection");
}

void ControlServer::Serve(const std::shared_ptr<base::Connection>& connection) {
  const auto first = ReceiveToLauncher(*connection, kFirstMessagePatience);
  if (!first || !*first) return;
  const wire::ToLauncher& message = **first;
  wire::FromLauncher reply;
  switch (message.body_case()) {
    case wire::ToLauncher::kAskStop:
      hooks_.post(0, event::StopAsked{"belay stop", false, message.ask_stop().now()});
      base::IgnoreError(base::FaultPoint("control.after_stop"), "only kills make sense here");
      reply.mutable_stop_reply()->set_text(message.ask_stop().now() ? "killing" : "stopping");
      base::IgnoreError(launcher::Send(*connection, reply), "the command has gone; the stop stands");
      return;
    case wire::ToLauncher::kAskStatus:
      *reply.mutable_job_status() = hooks_.status();
      base::IgnoreError(launcher::Send(*connection, reply), "the command has gone");
      return;
    case wire::ToLauncher::kRegistration:
      break;
    default:
      return;
  }
  const wire::Register& registration = message.registration();
  std::uint64_t attempt = 0;
  {
    const std::scoped_lock lock(mutex_);
    const bool ours =
        !mark_.empty() && registration.attempt() == mark_ && registration.protocol_version() == kRankProtocolVersion &&
        registration.world_size() == world_size_ && registration.rank() >= 0 && registration.rank() < world_size_;
    if (!ours || !shims_.emplace(registration.rank(), connection).second) return;  // end of connection: it leaves
    attempt = attempt_;
  }
  hooks_.post(attempt, event::Registered{.rank = registration.rank(),
                                         .local_rank = registration.local_rank(),
                                         .host = registration.host(),
                                         .shim_pid = registration.pid(),
                                         .log_path = ""});
  ServeShim(*connection, attempt, registration.rank());
  const std::scoped_lock lock(mutex_);
  if (const auto it = shims_.find(registration.rank()); it != shims_.end() && it->second == connection)
    shims_.erase(it);
}

void ControlServer::ServeShim(base::Connection& connection, std::uint64_t attempt, std::int32_t rank) {
  while (true) {
    const auto received = ReceiveToLauncher(connection, std::nullopt);
    if (!received || !*received) break;
    const wire::ToLauncher& message = **received;
    switch (message.body_case()) {
      case wire::ToLauncher::kStarted:
        hooks_.post(attempt, event::Started{rank, message.started().pid()});
        break;
      case wire::ToLauncher::kProgress:
        hooks_.post(attempt, event::Progress{rank, FromWire(message.progress())});
        break;
      case wire::ToLauncher::kOutput:
        console_.Output(rank, message.output().text(), message.output().error_stream());
        break;
      case wire::ToLauncher::kEnding:
        NoteEnding(attempt, rank, message.ending().steady_ns());
        break;
      case wire::ToLauncher::kExited: {
        const wire::Exited& exited = message.exited();
        AwaitEarlierEnds(attempt, rank, exited.steady_ns());
        hooks_.post(attempt, event::Progress{rank, FromWire(exited.progress())});
        hooks_.post(attempt,
                    event::Exited{.rank = rank,
                                  .exit = {.status = exited.status(),
                                           .signal = exited.signal(),
                                           .never_started = exited.never_started(),
                                           .out_of_memory = exited.out_of_memory(),
                                           .error = exited.error(),
                                           .last_lines = {exited.last_lines().begin(), exited.last_lines().end()}},
                                  .at = base::SteadyTime(base::Duration(exited.steady_ns()))});
        ForgetEnding(attempt, rank);
        break;
      }
      default:
        break;
    }
  }
  hooks_.post(attempt, event::Lost{rank});
  ForgetEnding(attempt, rank);
}

}  // namespace belay::launcher
