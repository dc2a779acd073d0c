#include "launcher/run/daemon_link.h"

#include <algorithm>
#include <condition_variable>

namespace belay::launcher {

constexpr int kBeginTries = 3;

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
  base::Result<checkpoint::RunGrant> granted = base::Fail(base::Code::kUnavailable, "belayd was not asked");
  for (int tries = 0; tries < kBeginTries; ++tries) {
    std::shared_ptr<checkpoint::Client> daemon = client();
    if (daemon == nullptr || daemon->Broken()) {
      BELAY_TRY(Reconnect());
      daemon = client();
    }
    // A belayd that died over the question is asked again, as if for the first time: it may have granted the next
    // generation already and not been able to say so.
    granted = daemon->BeginRun(job_, world_size, tries == 0 ? continues : base::Generation());
    if (granted || granted.error().code != base::Code::kUnavailable || !daemon->Broken()) break;
  }
  BELAY_TRY(granted);
  const checkpoint::RunGrant& run = *granted;
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
  const std::scoped_lock lock(watch_mutex_);
  watcher_ = std::jthread([daemon, gone = std::move(gone)](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      if (!daemon->WaitBroken(std::chrono::milliseconds(200))) continue;
      if (!stop.stop_requested()) gone();
      return;
    }
  });
}

std::optional<std::int64_t> DaemonLink::End(const std::shared_ptr<DaemonLink>& daemon, base::Generation generation,
                                            const std::string& outcome, base::Duration patience) {
  struct Answer {
    std::mutex mutex;
    std::condition_variable changed;
    bool ready = false;
    std::optional<std::int64_t> newest_step;
  };
  const auto answer = std::make_shared<Answer>();
  std::thread([daemon, generation, outcome, answer] {
    std::optional<std::int64_t> newest;
    if (const auto client = daemon->client(); client != nullptr && !client->Broken()) {
      if (const auto points = client->RestorePoints(daemon->job_)) {
        // A private belayd is about to leave, and takes what is in memory only with it.
        const auto found = std::ranges::find_if(*points, &checkpoint::RestorePoint::committed);
        if (found != points->end()) newest = found->step.value();
      }
      if (generation.value() != 0) {
        base::IgnoreError(client->EndRun(daemon->job_, generation, outcome), "belayd sees the connection end anyway");
      }
    }
    const std::scoped_lock lock(answer->mutex);
    answer->newest_step = newest;
    answer->ready = true;
    answer->changed.notify_all();
  }).detach();
  std::unique_lock lock(answer->mutex);
  answer->changed.wait_for(lock, patience, [&] { return answer->ready; });
  return answer->newest_step;
}

}  // namespace belay::launcher
