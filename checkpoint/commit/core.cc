#include "checkpoint/commit/core.h"

#include <algorithm>
#include <utility>

#include "runtime/base/check.h"

namespace belay::checkpoint::commit {

using base::Code;
using base::Error;

Core::Core(CoreConfig config, Catalogue catalogue, base::SteadyTime now) : config_(config), now_(now) {
  state_.idle_since = now;
  if (config.clients_awaited) state_.awaited_until = now + kReunionPatience;
  for (auto& [key, found] : catalogue) {
    Job& job = state_.jobs[key];
    job.owner_uid = found.owner_uid;
    job.generation = found.generation;
    job.last_used = now;
    for (auto& [id, info] : found.checkpoints) job.committed[id] = Committed{std::move(info)};
  }
}

std::vector<Action> Core::Step(const Event& event, base::SteadyTime now) {
  BELAY_CHECK(now >= now_, "steady time went back");
  now_ = now;
  std::visit([this](const auto& what) { Handle(what); }, event);
  AnswerDueWaiters();
  EndWhatIsLate();
  ExitIfDrained();
  return std::exchange(actions_, {});
}

std::optional<base::SteadyTime> Core::NextDeadline() const {
  std::optional<base::SteadyTime> next;
  const auto consider = [&next](base::SteadyTime time) { next = next ? std::min(*next, time) : time; };
  for (const Waiter& waiter : state_.waiters) consider(waiter.deadline);
  if (state_.awaited_until) consider(*state_.awaited_until);
  if (RestartDrains() && !state_.exited) consider(state_.restarting->give_up_at);
  if (config_.is_private && state_.connections.empty() && !state_.awaited_until && !Draining() && !state_.exited) {
    consider(state_.idle_since + (state_.ever_connected ? config_.linger : config_.first_connection_wait));
  }
  return next;
}

void Core::Handle(const ConnectionOpened& event) {
  state_.connections[event.connection] = ConnectionState{event.uid, event.pid, std::nullopt, {}};
  state_.ever_connected = true;
}

void Core::Handle(const ConnectionClosed& event) {
  DetachConnection(event.connection, "its connection closed");
  state_.connections.erase(event.connection);
  std::erase_if(state_.waiters, [&](const Waiter& waiter) { return waiter.ref.connection == event.connection; });
  for (auto& [key, job] : state_.jobs) {
    if (job.launcher && job.launcher->connection == event.connection) job.launcher.reset();
    if (job.beginning && job.beginning->ref.connection == event.connection) job.beginning->abandoned = true;
    std::erase_if(job.held_begins, [&](const HeldBegin& held) { return held.ref.connection == event.connection; });
  }
  if (state_.connections.empty()) state_.idle_since = now_;
}

void Core::Handle(const RequestArrived& event) {
  if (!state_.connections.contains(event.ref.connection)) return;  // it closed meanwhile
  std::visit(
      [&](const auto& request) {
        if constexpr (std::is_same_v<std::decay_t<decltype(request)>, BeginSnapshot>) {
          Handle(event.ref, request, event.space, false);
        } else {
          Handle(event.ref, request);
        }
      },
      event.request);
}

// A private daemon belongs to a run, and a batch system that ends the run signals both: it stays until they have saved
// and left. DaemonStop still stops it.
void Core::Handle(const StopSignal& /*event*/) {
  if (!config_.is_private || (state_.connections.empty() && !state_.awaited_until)) return StopGently();
  Do(Note{}, base::Str("not stopping on the signal: private, and ", state_.connections.size(), " still connected",
                       state_.awaited_until ? " or about to connect again" : "", "; leaving after the last of them"));
}
void Core::Handle(const Tick& /*event*/) {}  // Step looks at the deadlines after every event

void Core::StopGently() {
  state_.stopping = true;
  EndRestart(Error{Code::kUnavailable, "belayd is stopping", nullptr});
  for (auto& [key, job] : state_.jobs) {
    FailUnsealed(key, Error{Code::kUnavailable, "belayd is stopping", nullptr});
    if (job.beginning && !job.beginning->persisting) {
      Answer(job.beginning->ref, Error{Code::kUnavailable, "belayd is stopping", nullptr});
      job.beginning.reset();
    }
  }
}

void Core::Handle(const RequestRef& ref, const DaemonStatus& /*request*/) {
  StatusReport report;
  report.staging_bytes = StagingBytesHeld();
  report.connections = static_cast<std::uint32_t>(state_.connections.size());
  for (const auto& [key, job] : state_.jobs) {
    if (!CheckOwner(ref.connection, key)) continue;
    report.checkpoints += job.committed.size();
    for (const auto& [id, committed] : job.committed) report.checkpoint_bytes += committed.info.bytes;
    if (job.launcher || !job.attached.empty()) {
      report.runs.push_back({key, job.generation, job.world_size, static_cast<std::int32_t>(job.attached.size()),
                             job.launcher ? job.launcher->pid : 0});
    }
  }
  Answer(ref, std::move(report));
}

void Core::Handle(const RequestRef& ref, const DaemonStop& request) {
  const std::uint32_t uid = state_.connections.at(ref.connection).uid;
  if (uid != 0 && uid != config_.daemon_uid) {
    return Answer(ref, Error{Code::kPermissionDenied, "only root and the daemon's own user may stop it", nullptr});
  }
  if (!request.force) {
    for (const auto& [key, job] : state_.jobs) {
      if (job.attached.empty() && !job.launcher) continue;
      return Answer(ref, Error{Code::kBusy,
                               base::Str("a run of job ", key, " is alive (", job.attached.size(),
                                         " ranks attached); stop it first, or use --force"),
                               nullptr});
    }
  }
  Answer(ref, Done{}, request.force ? "asked to stop by force" : "asked to stop");
  StopGently();
  if (request.force && !state_.exited) {
    state_.exited = true;
    Do(Exit{.forced = true}, "stopping by force, without waiting for what is under way");
  }
}

void Core::AnswerDueWaiters() {
  std::vector<Waiter> due;
  std::erase_if(state_.waiters, [&](const Waiter& waiter) {
    if (waiter.deadline > now_) return false;
    due.push_back(waiter);
    return true;
  });
  for (const Waiter& waiter : due) {
    Answer(waiter.ref, OutcomeOf(state_.jobs.at(waiter.job), waiter.id, waiter.rank));
  }
}

bool Core::Draining() const {
  return std::any_of(state_.jobs.begin(), state_.jobs.end(), [](const auto& entry) {
    const Job& job = entry.second;
    return !job.snapshots.empty() || job.beginning || Removing(job);
  });
}

void Core::ExitIfDrained() {
  if (state_.exited || Draining()) return;
  std::string reason;
  if (state_.stopping) {
    reason = "asked to stop, and everything is drained";
  } else if (RestartDrains()) {
    state_.exited = true;
    Answer(state_.restarting->ref, Done{});
    return Do(Exit{.restart = true}, "everything is drained: the new belayd takes over");
  } else if (config_.is_private && state_.connections.empty()) {
    if (state_.awaited_until) return;
    const base::Duration wait = state_.ever_connected ? config_.linger : config_.first_connection_wait;
    if (now_ < state_.idle_since + wait) return;
    reason = "nobody is connected any more";
  } else {
    return;
  }
  state_.exited = true;
  Do(Exit{}, reason);
}

base::Status Core::CheckOwner(ConnectionId connection, const JobKey& key) const {
  const auto peer = state_.connections.find(connection);
  const auto job = state_.jobs.find(key);
  if (peer == state_.connections.end() || job == state_.jobs.end()) return {};
  if (peer->second.uid == 0 || peer->second.uid == job->second.owner_uid) return {};
  return base::Fail(Code::kPermissionDenied, "job ", key, " belongs to another user");
}

Job* Core::FindJob(const JobKey& key) {
  const auto job = state_.jobs.find(key);
  return job == state_.jobs.end() ? nullptr : &job->second;
}

void Core::Answer(const RequestRef& ref, ReplyBody body, std::string reason) {
  if (!state_.connections.contains(ref.connection)) return;
  Do(Reply{ref, std::move(body)}, std::move(reason));
}

void Core::Do(decltype(Action::what) what, std::string reason) {
  actions_.push_back(Action{std::move(what), std::move(reason)});
}

}  // namespace belay::checkpoint::commit
