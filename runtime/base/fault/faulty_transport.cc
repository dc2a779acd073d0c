#include "runtime/base/fault/faulty_transport.h"

#include <atomic>
#include <mutex>

namespace belay::base {

struct FaultyTransport::Plan {
  enum class Fate : std::uint8_t { kArrives, kLost, kLast };

  Fate Next() {
    const std::scoped_lock lock(mutex);
    if (reset_armed && reset_skip-- == 0) {
      reset_armed = false;
      return Fate::kLast;
    }
    if (drop_count > 0) {
      if (drop_skip > 0) {
        --drop_skip;
      } else {
        --drop_count;
        return Fate::kLost;
      }
    }
    return Fate::kArrives;
  }

  std::mutex mutex;
  std::uint64_t refuse = 0;
  bool reset_armed = false;
  std::uint64_t reset_skip = 0;
  std::uint64_t drop_count = 0;
  std::uint64_t drop_skip = 0;
};

class FaultyTransport::FaultyConnection final : public Connection {
 public:
  FaultyConnection(std::shared_ptr<Plan> plan, std::unique_ptr<Connection> connection)
      : plan_(std::move(plan)), connection_(std::move(connection)) {}

  Status Send(const Message& message) override {
    if (reset_) return Fail(Code::kUnavailable, "injected fault: connection reset");
    const Plan::Fate fate = plan_->Next();
    if (fate == Plan::Fate::kLost) return {};
    BELAY_TRY(connection_->Send(message));
    if (fate == Plan::Fate::kLast) {
      reset_ = true;
      connection_->Shutdown();
    }
    return {};
  }

  void SendWithoutTimeout() override { connection_->SendWithoutTimeout(); }

  Result<std::optional<Message>> Receive(std::optional<Duration> deadline) override {
    auto received = connection_->Receive(deadline);
    if (reset_) return Fail(Code::kUnavailable, "injected fault: connection reset");
    return received;
  }

  void Shutdown() override { connection_->Shutdown(); }
  bool PeerHasClosed() const override { return reset_ || connection_->PeerHasClosed(); }
  Peer PeerIdentity() const override { return connection_->PeerIdentity(); }

 private:
  const std::shared_ptr<Plan> plan_;
  const std::unique_ptr<Connection> connection_;
  std::atomic<bool> reset_{false};
};

class FaultyTransport::FaultyListener final : public Listener {
 public:
  FaultyListener(std::shared_ptr<Plan> plan, std::unique_ptr<Listener> listener)
      : plan_(std::move(plan)), listener_(std::move(listener)) {}

  Result<std::optional<std::unique_ptr<Connection>>> Accept() override {
    BELAY_ASSIGN(auto accepted, listener_->Accept());
    if (!accepted) return std::optional<std::unique_ptr<Connection>>();
    return std::optional<std::unique_ptr<Connection>>(std::make_unique<FaultyConnection>(plan_, *std::move(accepted)));
  }
  void Shutdown() override { listener_->Shutdown(); }

 private:
  const std::shared_ptr<Plan> plan_;
  const std::unique_ptr<Listener> listener_;
};

FaultyTransport::FaultyTransport(Transport& transport) : transport_(transport), plan_(std::make_shared<Plan>()) {}
FaultyTransport::~FaultyTransport() = default;

void FaultyTransport::RefuseConnects(std::uint64_t count) {
  const std::scoped_lock lock(plan_->mutex);
  plan_->refuse = count;
}

void FaultyTransport::ResetAfterSend(std::uint64_t skip) {
  const std::scoped_lock lock(plan_->mutex);
  plan_->reset_armed = true;
  plan_->reset_skip = skip;
}

void FaultyTransport::DropSends(std::uint64_t count, std::uint64_t skip) {
  const std::scoped_lock lock(plan_->mutex);
  plan_->drop_count = count;
  plan_->drop_skip = skip;
}

Result<std::unique_ptr<Connection>> FaultyTransport::Connect(const std::string& address, Duration timeout) {
  {
    const std::scoped_lock lock(plan_->mutex);
    if (plan_->refuse > 0) {
      --plan_->refuse;
      return Fail(Code::kUnavailable, "injected fault: cannot connect to ", address);
    }
  }
  BELAY_ASSIGN(auto connection, transport_.Connect(address, timeout));
  return std::make_unique<FaultyConnection>(plan_, std::move(connection));
}

Result<std::unique_ptr<Listener>> FaultyTransport::Listen(const std::string& address) {
  BELAY_ASSIGN(auto listener, transport_.Listen(address));
  return std::make_unique<FaultyListener>(plan_, std::move(listener));
}

}  // namespace belay::base
