// A Transport that fails on request, in front of any other: messages are counted over all its connections, both those
// it connected and those it accepted. Thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "runtime/base/transport.h"

namespace belay::base {

class FaultyTransport final : public Transport {
 public:
  explicit FaultyTransport(Transport& transport);
  ~FaultyTransport() override;

  // The next `count` calls of Connect fail with kUnavailable.
  void RefuseConnects(std::uint64_t count);
  // After `skip` messages the next is sent, and then its connection breaks: the peer has it, the sender gets
  // kUnavailable instead of an answer.
  void ResetAfterSend(std::uint64_t skip = 0);
  // After `skip` messages the next `count` get lost, and their senders do not notice.
  void DropSends(std::uint64_t count, std::uint64_t skip = 0);

  Result<std::unique_ptr<Connection>> Connect(const std::string& address, Duration timeout) override;
  Result<std::unique_ptr<Listener>> Listen(const std::string& address) override;

 private:
  struct Plan;
  class FaultyConnection;
  class FaultyListener;
  Transport& transport_;
  std::shared_ptr<Plan> plan_;
};

}  // namespace belay::base
