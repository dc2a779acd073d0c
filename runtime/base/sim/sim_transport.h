// Transport twin inside one process: messages go over queues, and a test decides how badly.
//
// The transport must outlive its listeners and connections. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/base/clock.h"
#include "runtime/base/transport.h"

namespace belay::base {

enum class SimWaiting : std::uint8_t {
  kThreads,  // somebody else may send: Receive and Accept wait in real time; the clock must be a real one
  kJumps,  // one thread drives all: nothing comes while we wait, so the clock jumps to the deadline at once (kTimeout);
           // waiting without a deadline would be for ever and is a CHECK
};

class SimTransport final : public Transport {
 public:
  SimTransport(Clock& clock, SimWaiting waiting);
  ~SimTransport() override;

  Result<std::unique_ptr<Connection>> Connect(const std::string& address, Duration timeout) override;
  Result<std::unique_ptr<Listener>> Listen(const std::string& address) override;

  // Two connected ends without an address.
  std::pair<std::unique_ptr<Connection>, std::unique_ptr<Connection>> Pair();

  // Messages sent from now on arrive this much later by the clock.
  void SetDelay(Duration delay);
  // The next `count` messages get lost; their senders do not notice.
  void DropNext(std::uint64_t count);
  // Every connection breaks: both ends get kUnavailable, messages on the way are lost.
  void CutAll();
  // While refused, nobody can connect (kUnavailable).
  void SetRefused(bool refused);
  // What PeerIdentity tells of connections made from now on. At first: this process's own user.
  void SetPeer(const Peer& peer);

 private:
  struct State;
  struct Link;
  struct Door;
  class SimConnection;
  class SimListener;
  std::shared_ptr<State> state_;
};

}  // namespace belay::base
