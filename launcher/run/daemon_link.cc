#include "launcher/run/daemon_link.h"

#include <algorithm>
#include <condition_variable>

namespace belay::launcher {
namespace {

using base::Code;

constexpr int kDeathsMax = 3;  // over one question
constexpr base::Duration kLeavingPatience = std::chrono::seconds(2);
constexpr std::chrono::seconds kReconnectPauseMax(64), kReconnectPauseTold(16);

// What a call answers whose connection broke over it, or a daemon that is about to leave.
bool AskAgain(Code code) {
  return code == Code::kUnavailable || code == Code::kOutcomeUnknown || code == Code::kTimeout;
}

}  // namespace

bool JobIsTaken(Code code) { return code == Code::kStaleGeneration || code == Code::kJobBusy; }

DaemonLink::DaemonLink(checkpoint::LocateRequest request, checkpoint::JobKey job)
    : request_(std::move(request)), job_(std::move(job)) {}

DaemonLink::~DaemonLink() = default;

std::shared_ptr<checkpoint::Client> DaemonLink::client() {
  const std::scoped_lock lock(mutex_);
  return client_;
}

bool DaemonLink::Connected() {
  const std::shared_ptr<checkpoint::Client> daemon = client();
  return daemon != nullptr && !daemon->Broken();
}

base::Status DaemonLink::Reconnect() {
  const std::scoped_lock one_at_a_time(reconnect_mutex_);
  if (Connected()) return {};
  BELAY_ASSIGN(checkpoint::Located located, checkpoint::ConnectOrStartDaemon(request_));
  const std::scoped_lock lock(mutex_);
  client_ = std::move(located.client);
  socket_ = located.socket;
  data_dir_ = located.data_dir;
  started_ = located.started;
  return {};
}

base::Status DaemonLink::HoldRun() {
  const std::shared_ptr<checkpoint::Client> daemon = client();
  base::Generation generation;
  std::int32_t world_size = 0;
  {
    const std::scoped_lock lock(mutex_);
    generation = generation_;
    world_size = world_size_;
  }
  if (daemon == nullptr || generation.value() == 0) return {};
  return daemon->HoldRun(job_, world_size, generation);
}

bool DaemonLink::KeepReconnecting(const std::stop_token& stop, const std::function<void(const base::Error&)>& trouble) {
  std::mutex mutex;
  std::condition_variable_any stopped;
  for (std::chrono::seconds pause(1);; pause = std::min(pause * 2, kReconnectPauseMax)) {
    base::Status again = Reconnect();
    if (stop.stop_requested()) return false;
    if (again) again = HoldRun();
    if (again) {
      Tell();
      return true;
    }
    if (JobIsTaken(again.error().code)) {  // its run goes on; ours ends when its ranks hear of it
      trouble(again.error());
      return true;
    }
    if (pause == kReconnectPauseTold) trouble(again.error());
    std::unique_lock lock(mutex);
    stopped.wait_for(lock, stop, pause, [] { return false; });
  }
}

void DaemonLink::Judge(Verdict verdict) {
  const std::scoped_lock lock(mutex_);
  untold_.push_back(std::move(verdict));
}

void DaemonLink::Tell() {
  const std::scoped_lock one_at_a_time(tell_mutex_);
  std::vector<Verdict> verdicts;
  {
    const std::scoped_lock lock(mutex_);
    if (client_ == nullptr || client_->Broken()) return;
    verdicts = std::exchange(untold_, {});
  }
  const std::shared_ptr<checkpoint::Client> daemon = client();
  for (Verdict& verdict : verdicts) {
    const auto trust = daemon->JudgeCheckpoint(verdict.key, verdict.judgement, verdict.by, verdict.reason);
    if (!trust && AskAgain(trust.error().code)) {  // hearing it twice does no harm
      Judge(std::move(verdict));
    } else {
      verdict.told(trust);
    }
  }
}

base::Result<DaemonLink::Grant> DaemonLink::Begin(std::int32_t world_size, base::Generation continues) {
  std::optional<checkpoint::RunGrant> run;
  bool answer_lost = false;
  for (int deaths = 0; !run;) {
    BELAY_TRY(Reconnect());
    Tell();
    const std::shared_ptr<checkpoint::Client> daemon = client();
    auto granted = daemon->BeginRun(job_, world_size, continues);
    if (granted) {
      run = *granted;
    } else if (answer_lost && granted.error().code == Code::kStaleGeneration) {
      // The next generation had been granted to us when the daemon died, and the answer went with it.
      continues = base::Generation(continues.value() + 1);
      answer_lost = false;
    } else if (AskAgain(granted.error().code) && daemon->WaitBroken(kLeavingPatience) && ++deaths < kDeathsMax) {
      answer_lost = continues.value() != 0;
    } else {
      return tl::unexpected(granted.error());
    }
  }
  Grant grant;
  grant.generation = run->generation;
  if (run->newest_step) grant.newest_step = run->newest_step->value();
  grant.suspects = run->suspects;
  const std::scoped_lock lock(mutex_);
  generation_ = run->generation;
  world_size_ = world_size;
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
    daemon->Tell();
    if (const auto client = daemon->client(); client != nullptr && !client->Broken()) {
      if (const auto points = client->RestorePoints(daemon->job_)) {
        // A private belayd is about to leave, and takes what is in memory only with it.
        const auto found = std::ranges::find_if(
            *points, [](const checkpoint::RestorePoint& point) { return point.committed && !point.suspect; });
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
