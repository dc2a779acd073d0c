#include "launcher/run/daemon_link.h"

namespace belay::launcher {

DaemonLink::DaemonLink(checkpoint::LocateRequest request, checkpoint::JobKey job)
    : request_(std::move(request)), job_(std::move(job)) {}

DaemonLink::~DaemonLink() = default;

std::shared_ptr<checkpoint::Client> DaemonLink::client() {
  const std::scoped_lock lock(mutex_);
  return client_;
}

base::Status DaemonLink::Reconnect() {
  BELAY_ASSIGN(checkpoint::Located located, checkpoint::ConnectOrStartDaemon(request_));
  const std::scoped_lock lock(mutex_);
  client_ = std::move(located.client);
  socket_ = located.socket;
  data_dir_ = located.data_dir;
  started_ = located.started;
  return {};
}

base::Result<DaemonLink::Grant> DaemonLink::Begin(std::int32_t world_size, base::Generation continues) {
  std::shared_ptr<checkpoint::Client> daemon = client();
  if (daemon == nullptr || daemon->Broken()) {
    BELAY_TRY(Reconnect());
    daemon = client();
  }
  BELAY_ASSIGN(const checkpoint::RunGrant run, daemon->BeginRun(job_, world_size, continues));
  Grant grant;
  grant.generation = run.generation;
  if (run.newest_step) grant.newest_step = run.newest_step->value();
  const std::scoped_lock lock(mutex_);
  grant.socket = socket_;
  grant.data_dir = data_dir_;
  grant.started_daemon = started_;
  return grant;
}

void DaemonLink::Watch(std::function<void()> gone) {
  const std::shared_ptr<checkpoint::Client> daemon = client();
  watcher_ = std::jthread([daemon, gone = std::move(gone)](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      if (!daemon->WaitBroken(std::chrono::milliseconds(200))) continue;
      if (!stop.stop_requested()) gone();
      return;
    }
  });
}

std::optional<std::int64_t> DaemonLink::NewestStep() {
  const std::shared_ptr<checkpoint::Client> daemon = client();
  if (daemon == nullptr || daemon->Broken()) return std::nullopt;
  const auto points = daemon->RestorePoints(job_);
  if (!points || points->empty()) return std::nullopt;
  return points->front().step.value();
}

void DaemonLink::End(base::Generation generation, const std::string& outcome) {
  const std::shared_ptr<checkpoint::Client> daemon = client();
  if (daemon == nullptr || daemon->Broken()) return;
  base::IgnoreError(daemon->EndRun(job_, generation, outcome),
                    "the run is over; belayd sees the connection end anyway");
}

}  // namespace belay::launcher
