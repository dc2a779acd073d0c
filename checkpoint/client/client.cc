#include "checkpoint/client/client.h"

#include <algorithm>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

#include "checkpoint/client/wire.h"
#include "checkpoint/format/strict_json.h"
#include "runtime/base/check.h"
#include "runtime/base/environment.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using base::Duration;
using base::Error;
using base::Fail;
using base::Result;
using base::Status;
using std::chrono::milliseconds;
using std::chrono::seconds;

// On top of the deadline that the daemon itself keeps.
constexpr Duration kWaitMargin = seconds(15);

struct Reply {
  wire::Response response;
  std::vector<base::UniqueFd> descriptors;
};

// "belayd (pid 12) at /run/belay/belayd.sock"; the pid is not known from within another pid namespace.
std::string NameOf(const base::Connection& connection, const std::string& socket) {
  const std::int32_t pid = connection.PeerIdentity().pid;
  return base::Str("belayd ", pid > 0 ? base::Str("(pid ", pid, ") ") : std::string(), "at ", socket);
}

// What to do about a daemon that lives and does not answer.
std::string HowToWake(const base::Connection& connection) {
  const std::int32_t pid = connection.PeerIdentity().pid;
  const std::string whom = pid > 0 ? base::Str(pid) : "PID";
  return base::Str("; `kill -CONT ", whom, "` lets a stopped one go on, `kill -KILL ", whom,
                   "` ends it (committed checkpoints are safe, and the next one takes over its socket)");
}

class SocketClient final : public Client {
 public:
  SocketClient(std::unique_ptr<base::Connection> connection, std::string socket)
      : connection_(std::move(connection)), socket_(std::move(socket)), reader_([this] { ReadResponses(); }) {}

  ~SocketClient() override {
    connection_->Shutdown();
    reader_.join();
  }

  Result<RunGrant> BeginRun(const JobKey& job, std::int32_t world_size, base::Generation continues) override {
    wire::Request request;
    auto* body = request.mutable_begin_run();
    ToWire(job, body->mutable_key());
    body->set_world_size(world_size);
    body->set_host(ToUtf8(base::HostName()));
    body->set_pid(base::ProcessId());
    body->set_continues(continues.value());
    // No deadline: the daemon first writes out what the run before had sealed, however large that is.
    BELAY_ASSIGN(Reply reply, Call(std::move(request), wire::Response::kRunGrant, std::nullopt));
    return FromWire(reply.response.run_grant());
  }

  Status HoldRun(const JobKey& job, std::int32_t world_size, base::Generation generation) override {
    wire::Request request;
    auto* body = request.mutable_hold_run();
    ToWire(job, body->mutable_key());
    body->set_generation(generation.value());
    body->set_world_size(world_size);
    body->set_host(ToUtf8(base::HostName()));
    body->set_pid(base::ProcessId());
    return CallForDone(std::move(request), kCallTimeout);
  }

  Status EndRun(const JobKey& job, base::Generation generation, const std::string& outcome) override {
    wire::Request request;
    auto* body = request.mutable_end_run();
    ToWire(job, body->mutable_key());
    body->set_generation(generation.value());
    body->set_outcome(ToUtf8(outcome));
    return CallForDone(std::move(request), kCallTimeout);
  }

  Result<Attachment> Attach(const AttachRequest& attach, Duration timeout) override {
    wire::Request request;
    ToWire(attach, request.mutable_attach());
    BELAY_ASSIGN(Reply reply, Call(std::move(request), wire::Response::kAttached, timeout));
    BELAY_ASSIGN(Attachment attachment, FromWire(reply.response.attached(), std::move(reply.descriptors)));
    const std::uint64_t needed = attach.window_bytes_min > 0 ? attach.window_bytes_min : attach.staging_bytes;
    if (attachment.staging_bytes < std::min(needed, attach.staging_bytes)) {
      return Fail(Code::kProtocol, "belayd granted ", attachment.staging_bytes, " bytes of staging memory where ",
                  needed, " are needed");
    }
    return attachment;
  }

  Result<Begun> BeginSnapshot(base::Step step, const std::string& reason) override {
    wire::Request request;
    request.mutable_begin_snapshot()->set_step(step.value());
    request.mutable_begin_snapshot()->set_reason(ToUtf8(reason));
    BELAY_ASSIGN(Reply reply,
                 Call(std::move(request), wire::Response::kDone, kTrainingTimeout, wire::Response::kBegun));
    if (reply.response.has_done()) return Begun{};
    return FromWire(reply.response.begun(), std::move(reply.descriptors));
  }

  Status WriteWave(const WaveRequest& wave) override {
    wire::Request request;
    ToWire(wave, request.mutable_write_wave());
    return CallForDone(std::move(request), std::nullopt);  // a disk may be busy with other states
  }

  Status SealSnapshot(const SealRequest& seal) override {
    wire::Request request;
    ToWire(seal, request.mutable_seal_snapshot());
    return CallForDone(std::move(request), kCallTimeout);
  }

  Status AbandonSnapshot(base::Step step, const std::string& why) override {
    wire::Request request;
    request.mutable_abandon_snapshot()->set_step(step.value());
    request.mutable_abandon_snapshot()->set_why(ToUtf8(why));
    return CallForDone(std::move(request), kTrainingTimeout);
  }

  Result<SnapshotOutcome> WaitSnapshot(base::Step step, Duration deadline) override {
    deadline = std::clamp<Duration>(deadline, Duration::zero(), std::chrono::hours(24));
    const auto whole = std::chrono::ceil<milliseconds>(deadline);
    wire::Request request;
    request.mutable_wait_snapshot()->set_step(step.value());
    request.mutable_wait_snapshot()->set_deadline_ms(static_cast<std::uint32_t>(whole.count()));
    BELAY_ASSIGN(Reply reply, Call(std::move(request), wire::Response::kSnapshotOutcome, deadline + kWaitMargin));
    return FromWire(reply.response.snapshot_outcome());
  }

  Result<std::vector<RestorePoint>> RestorePoints(const JobKey& job) override {
    wire::Request request;
    ToWire(job, request.mutable_restore_points()->mutable_key());
    BELAY_ASSIGN(Reply reply, Call(std::move(request), wire::Response::kRestorePointList, kCallTimeout));
    return FromWire(reply.response.restore_point_list());
  }

  Result<OpenedCheckpoint> OpenCheckpoint(const CheckpointKey& key, bool from_memory,
                                          const std::vector<std::string>& files) override {
    // A message carries 64 descriptors, so a large world is opened in several; the generation that the first answer
    // names keeps them all at one checkpoint.
    CheckpointKey exact = key;
    std::optional<OpenedCheckpoint> all;
    std::size_t next = 0;
    do {
      const std::size_t count = std::min(base::kDescriptorsMax, files.size() - next);
      wire::Request request;
      auto* body = request.mutable_open_checkpoint();
      ToWire(exact, body->mutable_checkpoint());
      body->set_from_memory(from_memory);
      for (std::size_t i = 0; i < count; ++i) body->add_files(ToUtf8(files[next + i]));
      BELAY_ASSIGN(Reply reply, Call(std::move(request), wire::Response::kOpenedCheckpoint, kCallTimeout));
      BELAY_ASSIGN(OpenedCheckpoint some, FromWire(reply.response.opened_checkpoint(), std::move(reply.descriptors)));
      if (some.files.size() != count) {
        return Fail(Code::kProtocol, "belayd opened ", some.files.size(), " files where ", count, " were asked for");
      }
      for (std::size_t i = 0; i < count; ++i) {
        if (some.files[i].name != files[next + i]) {
          return Fail(Code::kProtocol, "belayd opened ", some.files[i].name, " where ", files[next + i],
                      " was asked for");
        }
      }
      if (!all) {
        exact.generation = some.manifest.generation;
        all = std::move(some);
      } else {
        if (some.manifest.digest != all->manifest.digest) {
          return Fail(Code::kNotFound, "the checkpoint of step ", key.step, " was replaced while it was opened");
        }
        std::move(some.files.begin(), some.files.end(), std::back_inserter(all->files));
      }
      next += count;
    } while (next < files.size());
    return std::move(*all);
  }

  Result<std::vector<CheckpointInfo>> ListCheckpoints(const std::string& project, const std::string& job) override {
    wire::Request request;
    request.mutable_list_checkpoints()->set_project(ToUtf8(project));
    request.mutable_list_checkpoints()->set_job(ToUtf8(job));
    BELAY_ASSIGN(Reply reply, Call(std::move(request), wire::Response::kCheckpointList, kCallTimeout));
    return FromWire(reply.response.checkpoint_list());
  }

  Status PinCheckpoint(const CheckpointKey& key, bool pinned) override {
    wire::Request request;
    ToWire(key, request.mutable_pin_checkpoint()->mutable_checkpoint());
    request.mutable_pin_checkpoint()->set_pinned(pinned);
    return CallForDone(std::move(request), kCallTimeout);
  }

  Status RemoveCheckpoint(const CheckpointKey& key, bool force) override {
    wire::Request request;
    ToWire(key, request.mutable_remove_checkpoint()->mutable_checkpoint());
    request.mutable_remove_checkpoint()->set_force(force);
    return CallForDone(std::move(request), std::nullopt);  // unlinking large files takes its time
  }

  Status QuarantineCheckpoint(const CheckpointKey& key, const std::string& reason) override {
    wire::Request request;
    ToWire(key, request.mutable_quarantine_checkpoint()->mutable_checkpoint());
    request.mutable_quarantine_checkpoint()->set_reason(ToUtf8(reason));
    return CallForDone(std::move(request), kCallTimeout);
  }

  Result<Trust> JudgeCheckpoint(const CheckpointKey& key, Judgement judgement, base::Generation by,
                                const std::string& reason) override {
    wire::Request request;
    wire::JudgeCheckpoint& body = *request.mutable_judge_checkpoint();
    ToWire(key, body.mutable_checkpoint());
    body.set_judgement(static_cast<wire::Judgement>(judgement));
    body.set_by_generation(by.value());
    body.set_reason(ToUtf8(reason));
    // No deadline: the mark waits its turn behind deletions.
    BELAY_ASSIGN(Reply reply, Call(std::move(request), wire::Response::kJudged, std::nullopt));
    return FromWire(reply.response.judged().trust());
  }

  Result<DaemonReport> GetDaemonStatus() override {
    wire::Request request;
    request.mutable_daemon_status();
    BELAY_ASSIGN(Reply reply, Call(std::move(request), wire::Response::kDaemonReport, kCallTimeout));
    return FromWire(reply.response.daemon_report());
  }

  Status StopDaemon(bool force) override {
    wire::Request request;
    request.mutable_daemon_stop()->set_force(force);
    return CallForDone(std::move(request), std::nullopt);  // drains first
  }

  Status RestartDaemon() override {
    wire::Request request;
    request.mutable_daemon_restart();
    return CallForDone(std::move(request), std::nullopt);  // waits for saves under way
  }

  Result<ReindexReport> Reindex() override {
    wire::Request request;
    request.mutable_reindex();
    BELAY_ASSIGN(Reply reply, Call(std::move(request), wire::Response::kReindexReport, std::nullopt));
    return FromWire(reply.response.reindex_report());
  }

  bool Broken() const override {
    const std::lock_guard lock(mutex_);
    return broken_.has_value();
  }

  bool WaitBroken(Duration deadline) override {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::max(deadline, Duration::zero()), [this] { return broken_.has_value(); });
  }

 private:
  struct Pending {
    std::condition_variable answered;
    std::optional<Result<Reply>> result;
  };

  // Sends the request and waits for its answer, whose body must be `expected`, or `instead` of it.
  Result<Reply> Call(wire::Request request, wire::Response::BodyCase expected, std::optional<Duration> deadline,
                     std::optional<wire::Response::BodyCase> instead = std::nullopt) {
    Pending pending;
    base::Message message;
    {
      const std::lock_guard lock(mutex_);
      if (broken_) return tl::unexpected<Error>(*broken_);
      request.set_id(++last_id_);
      pending_.emplace(request.id(), &pending);
    }
    if (request.ByteSizeLong() > base::kMessageBytesMax) {
      Forget(request.id());
      return Fail(Code::kLimitExceeded, "a request of ", request.ByteSizeLong(), " bytes is more than belayd takes (",
                  base::kMessageBytesMax, "): keep fewer or smaller records in the checkpoint");
    }
    BELAY_CHECK(request.SerializeToString(&message.body), "a request does not serialize");
    if (auto sent = connection_->Send(message); !sent) {
      Break(sent.error());  // also answers this call, unless the reader was quicker
    }

    std::unique_lock lock(mutex_);
    const auto answered = [&pending] { return pending.result.has_value(); };
    if (!deadline) {
      pending.answered.wait(lock, answered);
    } else if (!pending.answered.wait_for(lock, *deadline, answered)) {
      pending_.erase(request.id());
      lock.unlock();
      const Error late{Code::kTimeout,
                       base::Str(NameOf(*connection_, socket_), " did not answer within ",
                                 std::chrono::duration_cast<seconds>(*deadline).count(),
                                 " s; it may be stopped or hung, or its disk stuck"),
                       nullptr};
      // What was asked for may still happen. A new connection starts from what the daemon then says; on this one the
      // next call would only wait again.
      Break(late);
      connection_->Shutdown();
      return tl::unexpected<Error>(late);
    }
    lock.unlock();
    if (!pending.result->has_value()) return tl::unexpected<Error>(std::move(pending.result->error()));
    Reply reply = std::move(pending.result->value());
    if (reply.response.has_failure()) return tl::unexpected<Error>(FromWire(reply.response.failure()));
    const auto body = reply.response.body_case();
    if (body != expected && body != instead) {
      return Fail(Code::kProtocol, "belayd answered with message ", static_cast<int>(body), " where ",
                  static_cast<int>(expected), " was expected");
    }
    return reply;
  }

  Status CallForDone(wire::Request request, std::optional<Duration> deadline) {
    BELAY_TRY(Call(std::move(request), wire::Response::kDone, deadline));
    return {};
  }

  void Forget(std::uint64_t id) {
    const std::lock_guard lock(mutex_);
    pending_.erase(id);
  }

  // The first reason stays; every call under way fails with it.
  void Break(const Error& reason) {
    const std::lock_guard lock(mutex_);
    if (broken_) return;
    const bool protocol = reason.code == Code::kProtocol || reason.code == Code::kLimitExceeded;
    broken_ =
        Error{protocol ? Code::kProtocol : Code::kUnavailable,
              base::Str("the connection to belayd at ", socket_, " broke"), std::make_shared<const Error>(reason)};
    for (auto& [id, pending] : pending_) {
      pending->result = tl::unexpected<Error>(*broken_);
      pending->answered.notify_one();
    }
    pending_.clear();
    changed_.notify_all();
  }

  void ReadResponses() {
    for (;;) {
      auto received = connection_->Receive(std::nullopt);
      if (!received) return Break(received.error());
      if (!received->has_value()) return Break(Error{Code::kUnavailable, "it has closed", nullptr});
      base::Message message = std::move(**received);
      auto response = DecodeResponse(message.body);
      if (!response) return Break(response.error());
      const std::lock_guard lock(mutex_);
      const auto found = pending_.find(response->id());
      if (found == pending_.end()) continue;  // its caller has given up
      Pending* pending = found->second;
      pending_.erase(found);
      pending->result = Reply{std::move(*response), std::move(message.descriptors)};
      pending->answered.notify_one();  // under the lock: the waiter owns `pending` and may end as soon as it is free
    }
  }

  std::unique_ptr<base::Connection> connection_;
  const std::string socket_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::unordered_map<std::uint64_t, Pending*> pending_;  // by request id; owned by the waiting callers
  std::uint64_t last_id_ = 0;
  std::optional<Error> broken_;
  std::thread reader_;  // last: it uses all of the above
};

Status ShakeHands(base::Connection& connection, const std::string& socket, const std::string& program,
                  Duration timeout) {
  wire::Hello hello;
  hello.set_protocol_version(kClientProtocolVersion);
  hello.set_program(ToUtf8(program));
  hello.set_belay_version(BELAY_VERSION);
  base::Message message;
  BELAY_CHECK(hello.SerializeToString(&message.body), "hello does not serialize");
  // A daemon that turns us away may close before it has read our hello: its word counts more than our failed send.
  const Status sent = connection.Send(message);
  auto received = connection.Receive(timeout);
  if (!received) {
    if (!sent) return base::Wrap(sent.error(), "cannot greet belayd at ", socket);
    if (received.error().code == Code::kTimeout) {
      return Fail(Code::kTimeout, NameOf(connection, socket),
                  " did not return the greeting in time: it may be stopped or hung", HowToWake(connection));
    }
    return base::Wrap(received.error(), "belayd at ", socket, " did not return the greeting");
  }
  if (!received->has_value()) {
    return Fail(Code::kUnavailable, "belayd at ", socket, " closed the connection during the greeting");
  }
  wire::Welcome welcome;
  if (!welcome.ParseFromString((*received)->body)) {
    return Fail(Code::kProtocol, "what listens at ", socket, " is not belayd");
  }
  if (welcome.has_failure()) return base::Wrap(FromWire(welcome.failure()), "belayd at ", socket, " refuses");
  if (welcome.protocol_version() != kClientProtocolVersion) {
    return Fail(Code::kProtocolVersion, "belayd at ", socket, " (version ", welcome.belay_version(),
                ") speaks protocol ", welcome.protocol_version(), ", this program speaks ", kClientProtocolVersion,
                ": install the same version of belay, then `belay daemon stop` and start it again");
  }
  return {};
}

// Whoever may put a socket where we look could read and answer for us: only root and ourselves are believed.
Status CheckServer(const base::Connection& connection, const std::string& socket) {
  const base::Peer peer = connection.PeerIdentity();
  const std::uint32_t own = base::UserId();
  if (peer.uid == own || peer.uid == 0) return {};
  return Fail(Code::kPermissionDenied, "what listens at ", socket, " belongs to user ", peer.uid,
              ", and this program (user ", own,
              ") talks only to a belayd of its own user or root's: name another with ", "--socket, or leave it out");
}

}  // namespace

Result<std::unique_ptr<Client>> Client::Connect(base::Transport& transport, const std::string& socket,
                                                const std::string& program, Duration timeout) {
  auto connection = transport.Connect(socket, timeout);
  if (!connection) {
    if (connection.error().code != Code::kTimeout) return tl::unexpected<Error>(std::move(connection).error());
    return base::Wrap(std::move(connection).error(), "belayd at ", socket, " may be stopped or hung");
  }
  BELAY_TRY(CheckServer(**connection, socket));
  BELAY_TRY(ShakeHands(**connection, socket, program, timeout));
  return std::unique_ptr<Client>(std::make_unique<SocketClient>(std::move(*connection), socket));
}

}  // namespace belay::checkpoint
