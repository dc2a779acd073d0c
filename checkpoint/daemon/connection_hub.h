// The daemon's clients: accepts them, says hello, reads their requests and sends their answers.
//
// Each connection has a reading and a sending thread, so that a client that stops reading holds up nobody else. What is
// read is handed to a callback on the reading thread; answers may be sent from any thread. Who had ended before a
// client asks for a job has been told of before the request is. Limits are PROTOCOL.md's.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "checkpoint/commit/types.h"
#include "checkpoint/protocol/belayd.pb.h"
#include "runtime/base/transport.h"

namespace belay::checkpoint {

inline constexpr std::size_t kConnectionsMax = 256;
inline constexpr std::size_t kRequestsUnderWayMax = 256;                  // of one connection
inline constexpr std::size_t kQueuedAnswerBytesMax = 128U * 1024 * 1024;  // of one connection

struct HubOptions {
  wire::Welcome welcome;  // what every client is told
  std::uint32_t daemon_uid = 0;
  bool same_user_only = true;  // else any uid may connect, and the core decides by the job's owner
  base::Duration hello_timeout = std::chrono::seconds(5);
};

// Who talks to the service. A simulation brings clients without sockets.
class Clients {
 public:
  struct Handlers {
    std::function<void(commit::ConnectionId, const base::Peer&)> opened;
    std::function<void(commit::RequestRef, const wire::Request&)> request;
    std::function<void(commit::ConnectionId)> closed;  // after it nothing more is heard of the connection
  };
  virtual ~Clients() = default;  // Stop()
  virtual void Start(Handlers handlers) = 0;
  // Closes every connection, after what is queued for it has been sent. No handler is called any more.
  virtual void Stop() = 0;
  // Dropped if the connection has gone.
  virtual void Send(commit::ConnectionId connection, const wire::Response& response,
                    std::vector<base::UniqueFd> descriptors) = 0;
};

class ConnectionHub final : public Clients {
 public:
  ConnectionHub(base::Listener& listener, HubOptions options);
  ~ConnectionHub() override;

  void Start(Handlers handlers) override;
  // Takes no more callers; those that are here stay.
  void StopAccepting();
  // Joins all threads.
  void Stop() override;
  void Send(commit::ConnectionId connection, const wire::Response& response,
            std::vector<base::UniqueFd> descriptors) override;

 private:
  struct Client;
  void AcceptLoop();
  void ReadLoop(Client& client);
  void SendLoop(Client& client);
  bool SayHello(Client& client);
  void HearEndedBefore(const Client& asking);
  void ReapFinished();

  base::Listener& listener_;
  const HubOptions options_;
  Handlers handlers_;  // set once, before the threads
  std::mutex mutex_;
  std::condition_variable ended_;                                    // a client's end has been told
  std::map<commit::ConnectionId, std::shared_ptr<Client>> clients_;  // guarded by mutex_
  commit::ConnectionId next_id_ = 1;                                 // accepting thread only
  std::thread accepter_;
  bool stopped_ = false;
};

}  // namespace belay::checkpoint
