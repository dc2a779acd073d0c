#include "runtime/base/sim/sim_transport.h"

#include <array>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>

#include "runtime/base/check.h"
#include "runtime/base/environment.h"
#include "runtime/base/frame.h"

namespace belay::base {

// Both directions of a connection; `queue[i]` is what end i will receive.
struct SimTransport::Link {
  struct Queued {
    SteadyTime due;
    Message message;
  };
  std::array<std::deque<Queued>, 2> queue;
  std::array<bool, 2> closed{};  // end i has gone, or shut down
  bool cut = false;
};

struct SimTransport::Door {
  std::deque<std::unique_ptr<Connection>> waiting;
  bool shut = false;
};

// One lock for all; tests have few connections.
struct SimTransport::State {
  State(Clock& a_clock, SimWaiting a_waiting) : clock(a_clock), waiting(a_waiting) {}

  // Waits for a change until `end`; false: it has passed. `lock` holds mutex.
  bool Wait(std::unique_lock<std::mutex>& lock, std::optional<SteadyTime> end) {
    if (end && clock.Now() >= *end) return false;
    if (waiting == SimWaiting::kThreads) {
      if (!end) {
        changed.wait(lock);
      } else {
        changed.wait_for(lock, *end - clock.Now());
      }
      return true;
    }
    BELAY_CHECK(end.has_value(), "waits for ever in a simulation of one thread");
    clock.SleepFor(*end - clock.Now());
    return true;
  }

  Clock& clock;
  const SimWaiting waiting;
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, std::shared_ptr<Door>> doors;
  std::vector<std::weak_ptr<Link>> links;
  Duration delay{};
  std::uint64_t drop = 0;
  bool refused = false;
  Peer peer{UserId(), 0, ProcessId()};
};

class SimTransport::SimConnection final : public Connection {
 public:
  SimConnection(std::shared_ptr<State> state, std::shared_ptr<Link> link, std::size_t end)
      : state_(std::move(state)), link_(std::move(link)), end_(end), peer_(state_->peer) {}
  ~SimConnection() override { Shutdown(); }

  Status Send(const Message& message) override {
    BELAY_TRY(EncodeFrameHeader(message));  // the same limits as on a socket
    Message copy{message.body, {}};
    for (const UniqueFd& fd : message.descriptors) {
      copy.descriptors.push_back(fd.Duplicate());
      if (!copy.descriptors.back().valid()) return Fail(Code::kIo, "cannot send descriptor ", fd.get());
    }
    const std::scoped_lock lock(state_->mutex);
    if (link_->cut || link_->closed[0] || link_->closed[1]) return Fail(Code::kUnavailable, "the connection is closed");
    if (state_->drop > 0) {
      --state_->drop;
      return {};
    }
    link_->queue[1 - end_].push_back({state_->clock.Now() + state_->delay, std::move(copy)});
    state_->changed.notify_all();
    return {};
  }

  Result<std::optional<Message>> Receive(std::optional<Duration> deadline) override {
    std::unique_lock lock(state_->mutex);
    std::optional<SteadyTime> end;
    if (deadline) end = state_->clock.Now() + *deadline;
    while (true) {
      if (link_->closed[end_]) return std::optional<Message>();
      if (link_->cut) return Fail(Code::kUnavailable, "the connection broke");
      auto& queue = link_->queue[end_];
      std::optional<SteadyTime> wake = end;
      if (!queue.empty()) {
        const SteadyTime due = queue.front().due;
        if (due <= state_->clock.Now()) {
          Message message = std::move(queue.front().message);
          queue.pop_front();
          return std::optional(std::move(message));
        }
        wake = end ? std::min(*end, due) : due;
      } else if (link_->closed[1 - end_]) {
        return std::optional<Message>();
      }
      if (end && state_->clock.Now() >= *end) return Fail(Code::kTimeout, "no message came in time");
      state_->Wait(lock, wake);
    }
  }

  void Shutdown() override {
    const std::scoped_lock lock(state_->mutex);
    link_->closed[end_] = true;
    state_->changed.notify_all();
  }

  bool PeerHasClosed() const override {
    const std::scoped_lock lock(state_->mutex);
    return link_->cut || link_->closed[1 - end_];
  }
  Peer PeerIdentity() const override { return peer_; }

 private:
  const std::shared_ptr<State> state_;
  const std::shared_ptr<Link> link_;
  const std::size_t end_;
  const Peer peer_;
};

class SimTransport::SimListener final : public Listener {
 public:
  SimListener(std::shared_ptr<State> state, std::string address, std::shared_ptr<Door> door)
      : state_(std::move(state)), address_(std::move(address)), door_(std::move(door)) {}
  ~SimListener() override {
    std::deque<std::unique_ptr<Connection>> refused;
    {
      const std::scoped_lock lock(state_->mutex);
      state_->doors.erase(address_);
      refused.swap(door_->waiting);
    }
  }

  Result<std::optional<std::unique_ptr<Connection>>> Accept() override {
    std::unique_lock lock(state_->mutex);
    while (true) {
      if (door_->shut) return std::optional<std::unique_ptr<Connection>>();
      if (!door_->waiting.empty()) {
        auto connection = std::move(door_->waiting.front());
        door_->waiting.pop_front();
        return std::optional(std::move(connection));
      }
      state_->Wait(lock, std::nullopt);
    }
  }

  void Shutdown() override {
    const std::scoped_lock lock(state_->mutex);
    door_->shut = true;
    state_->changed.notify_all();
  }

 private:
  const std::shared_ptr<State> state_;
  const std::string address_;
  const std::shared_ptr<Door> door_;
};

SimTransport::SimTransport(Clock& clock, SimWaiting waiting) : state_(std::make_shared<State>(clock, waiting)) {}
SimTransport::~SimTransport() = default;

std::pair<std::unique_ptr<Connection>, std::unique_ptr<Connection>> SimTransport::Pair() {
  const std::scoped_lock lock(state_->mutex);
  auto link = std::make_shared<Link>();
  std::erase_if(state_->links, [](const auto& old) { return old.expired(); });
  state_->links.push_back(link);
  return {std::make_unique<SimConnection>(state_, link, 0), std::make_unique<SimConnection>(state_, link, 1)};
}

Result<std::unique_ptr<Connection>> SimTransport::Connect(const std::string& address, Duration /*timeout*/) {
  auto [here, there] = Pair();
  const std::scoped_lock lock(state_->mutex);
  const auto door = state_->doors.find(address);
  if (state_->refused || door == state_->doors.end()) {
    // `there` must not be destroyed under the lock; it is declared outside of it.
    return Fail(Code::kUnavailable, "cannot connect to ", address);
  }
  door->second->waiting.push_back(std::move(there));
  state_->changed.notify_all();
  return std::move(here);
}

Result<std::unique_ptr<Listener>> SimTransport::Listen(const std::string& address) {
  const std::scoped_lock lock(state_->mutex);
  auto& door = state_->doors[address];
  if (door != nullptr) return Fail(Code::kAlreadyExists, "somebody listens on ", address);
  door = std::make_shared<Door>();
  return std::make_unique<SimListener>(state_, address, door);
}

void SimTransport::SetDelay(Duration delay) {
  const std::scoped_lock lock(state_->mutex);
  state_->delay = delay;
}

void SimTransport::DropNext(std::uint64_t count) {
  const std::scoped_lock lock(state_->mutex);
  state_->drop = count;
}

void SimTransport::CutAll() {
  const std::scoped_lock lock(state_->mutex);
  for (const auto& weak : state_->links) {
    if (const auto link = weak.lock()) link->cut = true;
  }
  state_->changed.notify_all();
}

void SimTransport::SetRefused(bool refused) {
  const std::scoped_lock lock(state_->mutex);
  state_->refused = refused;
}

void SimTransport::SetPeer(const Peer& peer) {
  const std::scoped_lock lock(state_->mutex);
  state_->peer = peer;
}

}  // namespace belay::base
