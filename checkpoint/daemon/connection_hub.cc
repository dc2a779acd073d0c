#include "checkpoint/daemon/connection_hub.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "checkpoint/daemon/wire.h"
#include "runtime/base/fault_points.h"
#include "runtime/base/log.h"

namespace belay::checkpoint {

using base::Code;

namespace {
constexpr auto kHearEndedMax = std::chrono::seconds(1);  // of a client whose reading thread the disk holds up
}

struct ConnectionHub::Client {
  commit::ConnectionId id = 0;
  std::unique_ptr<base::Connection> connection;
  std::thread reader, sender;
  std::atomic<bool> finished = false;  // the reading thread is about to end
  bool end_told = false;               // guarded by the hub's mutex
  std::atomic<std::size_t> under_way = 0;

  std::mutex mutex;
  std::condition_variable changed;
  std::deque<base::Message> outgoing;  // guarded by mutex
  std::size_t outgoing_bytes = 0;      // guarded by mutex
  bool closing = false;                // guarded by mutex; the sender ends once `outgoing` is empty
  bool broken = false;                 // guarded by mutex; what is left cannot be sent
  bool has_sender = false;             // guarded by mutex

  void Enqueue(base::Message message) {
    const std::scoped_lock lock(mutex);
    if (closing || broken) return;
    outgoing_bytes += message.body.size();
    if (outgoing_bytes > kQueuedAnswerBytesMax) {  // it asks and never reads
      broken = true;
      connection->Shutdown();
    }
    outgoing.push_back(std::move(message));
    changed.notify_all();
  }
  // The sender, when it has sent what is queued, wakes the reader.
  void CloseAfterSending() {
    const std::scoped_lock lock(mutex);
    closing = true;
    changed.notify_all();
    if (!has_sender) connection->Shutdown();
  }
};

ConnectionHub::ConnectionHub(base::Listener& listener, HubOptions options)
    : listener_(listener), options_(std::move(options)) {}

ConnectionHub::~ConnectionHub() { Stop(); }

void ConnectionHub::Start(Handlers handlers) {
  handlers_ = std::move(handlers);
  accepter_ = std::thread([this] { AcceptLoop(); });
}

void ConnectionHub::StopAccepting() {
  listener_.Shutdown();
  if (accepter_.joinable()) accepter_.join();
}

void ConnectionHub::Stop() {
  if (std::exchange(stopped_, true)) return;
  StopAccepting();
  std::map<commit::ConnectionId, std::shared_ptr<Client>> clients;
  {
    const std::scoped_lock lock(mutex_);
    clients = clients_;
  }
  for (auto& [id, client] : clients) client->CloseAfterSending();
  for (auto& [id, client] : clients) {
    client->reader.join();  // which joins its sender
  }
}

void ConnectionHub::AcceptLoop() {
  while (true) {
    auto caller = listener_.Accept();
    if (!caller) {
      // Out of descriptors, most likely: those that are here go on, and closing ones make room.
      base::LogError("accept_failed", {{"why", caller.error().Text()}});
      ReapFinished();
      base::SystemClock().SleepFor(std::chrono::milliseconds(100));
      continue;
    }
    if (!*caller) return;
    ReapFinished();
    auto client = std::make_shared<Client>();
    client->id = next_id_++;
    client->connection = *std::move(*caller);
    const std::scoped_lock lock(mutex_);
    if (clients_.size() >= 2 * kConnectionsMax) {  // even for a thread that says why
      base::LogWarning("connection_refused", {{"why", "too many connections at once"}});
      continue;
    }
    try {
      client->reader = std::thread([this, client] { ReadLoop(*client); });
    } catch (const std::system_error& error) {  // no thread to be had: the others go on
      base::LogError("connection_refused", {{"why", error.what()}});
      continue;
    }
    clients_[client->id] = client;
  }
}

void ConnectionHub::ReapFinished() {
  std::vector<std::shared_ptr<Client>> finished;
  {
    const std::scoped_lock lock(mutex_);
    for (auto at = clients_.begin(); at != clients_.end();) {
      if (!at->second->finished) {
        ++at;
        continue;
      }
      finished.push_back(at->second);
      at = clients_.erase(at);
    }
  }
  for (const auto& client : finished) client->reader.join();
}

// True if the client may go on. Otherwise it has been told why.
bool ConnectionHub::SayHello(Client& client) {
  wire::Welcome welcome = options_.welcome;
  const auto refuse = [&](Code code, const std::string& why) {
    ToWire(base::Error{code, why, nullptr}, *welcome.mutable_failure());
    base::LogWarning("connection_refused", {{"why", why}});
    base::IgnoreError(client.connection->Send({welcome.SerializeAsString(), {}}), "it is being sent away");
    return false;
  };
  auto first = client.connection->Receive(options_.hello_timeout);
  if (!first) return refuse(first.error().code, "no hello: " + first.error().Text());
  if (!*first) return false;  // a look whether somebody listens
  wire::Hello hello;
  if (!hello.ParseFromString((*first)->body)) return refuse(Code::kProtocol, "the first message is no hello");
  if (hello.protocol_version() != kProtocolVersion) {
    return refuse(Code::kProtocolVersion, base::Str("this belayd speaks protocol version ", kProtocolVersion, ", ",
                                                    hello.program().substr(0, 64), " speaks ", hello.protocol_version(),
                                                    "; update the older one"));
  }
  const base::Peer peer = client.connection->PeerIdentity();
  if (options_.same_user_only && peer.uid != options_.daemon_uid) {
    return refuse(Code::kPermissionDenied,
                  base::Str("this belayd serves user ", options_.daemon_uid, " only, not user ", peer.uid));
  }
  std::size_t connected = 0;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& [id, other] : clients_) connected += other->finished ? 0 : 1;
  }
  if (connected > kConnectionsMax) {
    return refuse(Code::kLimitExceeded, base::Str("this belayd has its ", kConnectionsMax, " connections already"));
  }
  return client.connection->Send({welcome.SerializeAsString(), {}}).has_value();
}

// Each connection has a thread of its own, so a launcher that took the place of a dead one at once could be faster than
// the end of that one's connection, and be told that the job is taken.
void ConnectionHub::HearEndedBefore(const Client& asking) {
  std::vector<std::shared_ptr<Client>> ended;
  std::unique_lock lock(mutex_);
  for (const auto& [id, other] : clients_) {
    if (other.get() != &asking && !other->end_told && other->connection->PeerHasClosed()) ended.push_back(other);
  }
  ended_.wait_for(lock, kHearEndedMax, [&ended] {
    return std::all_of(ended.begin(), ended.end(), [](const auto& one) { return one->end_told; });
  });
}

void ConnectionHub::ReadLoop(Client& client) {
  const auto start_sender = [&] {
    const std::scoped_lock lock(client.mutex);
    if (client.closing) return false;
    try {
      client.sender = std::thread([this, &client] { SendLoop(client); });
    } catch (const std::system_error& error) {  // no thread to be had: the others go on
      base::LogError("connection_refused", {{"why", error.what()}});
      return false;
    }
    client.has_sender = true;
    return true;
  };
  const auto tell_end = [&] {
    const std::scoped_lock lock(mutex_);
    client.end_told = true;
    ended_.notify_all();
  };
  if (SayHello(client) && start_sender()) {
    handlers_.opened(client.id, client.connection->PeerIdentity());
    while (true) {
      auto message = client.connection->Receive(std::nullopt);
      if (!message) {
        base::LogWarning("connection_lost", {{"connection", client.id}, {"why", message.error().Text()}});
        break;
      }
      if (!*message) break;
      wire::Request request;
      if (!request.ParseFromString((*message)->body)) {
        base::LogWarning("connection_lost", {{"connection", client.id}, {"why", "a message is not a request"}});
        break;
      }
      if (++client.under_way > kRequestsUnderWayMax) {
        wire::Response response;
        ToWire(base::Error{Code::kLimitExceeded, "too many requests are under way on this connection", nullptr},
               *response.mutable_failure());
        response.set_id(request.id());
        Send(client.id, response, {});
        continue;
      }
      if (request.has_begin_run() || request.has_hold_run()) HearEndedBefore(client);
      handlers_.request({client.id, request.id()}, request);
    }
    handlers_.closed(client.id);
    tell_end();
    client.CloseAfterSending();
    client.sender.join();
  }
  tell_end();
  client.connection->Shutdown();
  client.finished = true;
}

void ConnectionHub::SendLoop(Client& client) {
  std::unique_lock lock(client.mutex);
  while (true) {
    client.changed.wait(lock, [&] { return client.closing || client.broken || !client.outgoing.empty(); });
    if (client.broken || client.outgoing.empty()) {
      client.connection->Shutdown();
      return;
    }
    const base::Message message = std::move(client.outgoing.front());
    client.outgoing.pop_front();
    client.outgoing_bytes -= message.body.size();
    lock.unlock();
    base::Status sent = base::FaultPoint("daemon.before_reply");
    if (sent) sent = client.connection->Send(message);
    lock.lock();
    if (sent) continue;
    client.broken = true;
    base::LogWarning("answer_not_sent", {{"connection", client.id}, {"why", sent.error().Text()}});
    client.connection->Shutdown();
  }
}

void ConnectionHub::Send(commit::ConnectionId connection, const wire::Response& response,
                         std::vector<base::UniqueFd> descriptors) {
  std::shared_ptr<Client> client;
  {
    const std::scoped_lock lock(mutex_);
    const auto found = clients_.find(connection);
    if (found == clients_.end()) return;
    client = found->second;
  }
  if (client->under_way > 0) --client->under_way;
  client->Enqueue({response.SerializeAsString(), std::move(descriptors)});
}

}  // namespace belay::checkpoint
