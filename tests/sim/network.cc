#include "tests/sim/network.h"

#include <algorithm>

#include "runtime/base/fault_points.h"

namespace belay::checkpoint::sim {

using base::Code;

namespace {
constexpr base::Duration kDelayMax = std::chrono::microseconds(300);
constexpr base::Duration kLateMax = std::chrono::milliseconds(400);
constexpr base::Duration kAnswerMax = std::chrono::minutes(2);

base::Error FailureOf(const wire::Failure& failure) {
  return {base::CodeFromNumber(failure.code()), failure.message(), nullptr};
}
}  // namespace

class Network::Hub final : public Clients {
 public:
  explicit Hub(Network& network) : network_(network) {}
  ~Hub() override { Hub::Stop(); }

  void Start(Handlers service) override {
    handlers = std::move(service);
    network_.hub_ = this;
    ++network_.hubs_;
  }
  void Stop() override {
    if (network_.hub_ != this) return;
    network_.hub_ = nullptr;
    network_.BreakAll("the daemon has gone");
  }
  void Send(commit::ConnectionId connection, const wire::Response& response,
            std::vector<base::UniqueFd> descriptors) override {
    if (network_.faults_.ghost()) return;
    const auto line = network_.lines_.find(connection);
    if (line == network_.lines_.end()) return;
    if (auto passed = base::FaultPoint("daemon.before_reply"); !passed) {
      if (!network_.faults_.ghost()) network_.Ended(connection);
      return;
    }
    // The point may have let others go on: who was there a moment ago may have left.
    const auto still = network_.lines_.find(connection);
    if (still == network_.lines_.end()) return;
    auto answer = std::make_shared<Answer>(Answer{response, std::move(descriptors)});
    network_.scheduler_.After(network_.InOrder(still->second->down_), [network = &network_, connection, answer] {
      network->Receive(connection, std::move(*answer));
    });
  }

  Handlers handlers;

 private:
  Network& network_;
};

std::unique_ptr<Clients> Network::MakeHub() { return std::make_unique<Hub>(*this); }

base::Duration Network::Delay() {
  if (trouble.late > 0 && scheduler_.Chance(trouble.late)) {
    faults_.coverage().Count(Kind::kLate);
    return scheduler_.Some(kLateMax);
  }
  return scheduler_.Some(kDelayMax);
}

base::Duration Network::InOrder(base::SteadyTime& last) {
  last = std::max(last, scheduler_.now() + Delay());
  return last - scheduler_.now();
}

std::shared_ptr<Line> Network::Connect(std::int32_t pid) {
  if (hub_ == nullptr || faults_.ghost()) return nullptr;
  const commit::ConnectionId id = next_id_++;
  auto line = std::make_shared<Line>(*this, id);
  lines_[id] = line.get();
  scheduler_.After(InOrder(line->up_), [this, id, pid] {
    if (hub_ != nullptr && lines_.contains(id)) hub_->handlers.opened(id, base::Peer{0, 0, pid});
  });
  return line;
}

void Line::Send(wire::Request request, std::function<void(Outcome)> done) {
  const std::uint64_t id = next_request_++;
  request.set_id(id);
  pending_[id] = std::move(done);
  if (broken_) {
    network_.scheduler_.After({}, [done = std::move(pending_.extract(id).mapped())] {
      done(base::Fail(Code::kUnavailable, "the connection is broken"));
    });
    return;
  }
  network_.scheduler_.After(network_.InOrder(up_), [network = &network_, connection = id_, request] {
    network->Deliver(connection, request);
  });
  network_.scheduler_.After(kAnswerMax, [network = &network_, connection = id_, id] {
    const auto line = network->lines_.find(connection);
    if (line == network->lines_.end() || !line->second->pending_.contains(id)) return;
    network->violated_(base::Str("request ", id, " of connection ", connection, " was not answered in two minutes"));
  });
}

void Network::Deliver(commit::ConnectionId id, wire::Request request) {
  if (hub_ == nullptr || faults_.ghost() || !lines_.contains(id)) return;
  if (trouble.cut > 0 && scheduler_.Chance(trouble.cut)) {
    faults_.coverage().Count(Kind::kLineCut);
    return Ended(id);
  }
  if (trace) trace(base::Str("connection ", id, " asks ", request.ShortDebugString()));
  hub_->handlers.request({id, request.id()}, request);
}

void Network::Receive(commit::ConnectionId id, Answer answer) {
  const auto found = lines_.find(id);
  if (found == lines_.end()) return;
  Line& line = *found->second;
  if (trace) trace(base::Str("connection ", id, " hears ", answer.response.ShortDebugString()));
  const auto pending = line.pending_.find(answer.response.id());
  if (pending == line.pending_.end()) {
    return violated_(
        base::Str("connection ", id, ": an answer to request ", answer.response.id(), ", which waits for none"));
  }
  const auto done = std::move(pending->second);
  line.pending_.erase(pending);
  if (answer.response.has_failure()) {
    done(tl::unexpected<base::Error>(FailureOf(answer.response.failure())));
  } else {
    done(std::move(answer));
  }
}

void Line::Break(const std::string& why) {
  broken_ = true;
  for (auto& [id, done] : std::exchange(pending_, {})) {
    network_.scheduler_.After(network_.Delay(),
                              [done = std::move(done), why] { done(base::Fail(Code::kUnavailable, why)); });
  }
}

// Both sides learn of it, each in its own time.
void Network::Ended(commit::ConnectionId id) {
  const auto line = lines_.find(id);
  if (line == lines_.end()) return;
  Line& ended = *line->second;
  lines_.erase(line);
  // By its number: where the next daemon's hub lies in memory, perhaps at the same place, is the allocator's choice.
  scheduler_.After(InOrder(ended.up_), [this, id, hub = hubs_] {
    if (hub_ != nullptr && hubs_ == hub && !faults_.ghost()) hub_->handlers.closed(id);
  });
  ended.Break("the connection broke");
}

void Line::Hangup() {
  pending_.clear();
  if (!broken_) network_.Ended(id_);
}

void Network::BreakAll(const std::string& why) {
  for (auto& [id, line] : std::exchange(lines_, {})) line->Break(why);
}

bool Network::CutOne() {
  if (lines_.empty()) return false;
  auto line = lines_.begin();
  std::advance(line, static_cast<std::ptrdiff_t>(scheduler_.rng().Below(lines_.size())));
  Ended(line->first);
  return true;
}

}  // namespace belay::checkpoint::sim
