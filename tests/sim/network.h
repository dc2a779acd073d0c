// Connections between the simulation's programs and its daemon, in place of the Unix socket: ordered both ways,
// delayed, cut at any moment. Messages are protobuf's, so that the daemon's translation is part of what is simulated.
//
// Every request must be answered once: a second answer, or none in two minutes of a living connection, is reported.
#pragma once

#include <coroutine>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/daemon/connection_hub.h"
#include "runtime/base/result.h"
#include "runtime/base/unique_fd.h"
#include "tests/sim/faults.h"
#include "tests/sim/scheduler.h"

namespace belay::checkpoint::sim {

struct Answer {
  wire::Response response;
  std::vector<base::UniqueFd> descriptors;
};
using Outcome = base::Result<Answer>;  // an answer with a failure is an error; kUnavailable: the connection broke

struct Trouble {  // how often what happens on the way
  double cut = 0;
  double repeat = 0;
  double late = 0;
};

class Network;

// A program's end of a connection. Ends with its last holder.
class Line {
 public:
  Line(Network& network, commit::ConnectionId id) : network_(network), id_(id) {}
  ~Line() { Hangup(); }
  Line(const Line&) = delete;
  Line& operator=(const Line&) = delete;

  bool broken() const { return broken_; }
  void Hangup();
  // Calls `done` with the answer, later.
  void Send(wire::Request request, std::function<void(Outcome)> done);

  class Call {
   public:
    Call(Line& line, wire::Request request) : line_(line), request_(std::move(request)) {}
    Call(const Call&) = delete;
    Call& operator=(const Call&) = delete;
    ~Call() { state_->caller = nullptr; }
    bool await_ready() const { return false; }
    void await_suspend(std::coroutine_handle<> caller) {
      state_->caller = caller;
      line_.Send(std::move(request_), [state = state_](Outcome outcome) {
        if (!state->caller) return;
        state->outcome = std::move(outcome);
        state->caller.resume();
      });
    }
    Outcome await_resume() { return std::move(state_->outcome); }

   private:
    struct State {
      std::coroutine_handle<> caller;
      Outcome outcome;
    };
    Line& line_;
    wire::Request request_;
    const std::shared_ptr<State> state_ = std::make_shared<State>();
  };
  // co_await line.Ask(request)
  Call Ask(wire::Request request) { return {*this, std::move(request)}; }

 private:
  friend class Network;
  void Break(const std::string& why);

  Network& network_;
  const commit::ConnectionId id_;
  bool broken_ = false;
  std::uint64_t next_request_ = 1;
  std::map<std::uint64_t, std::function<void(Outcome)>> pending_;
  base::SteadyTime up_{}, down_{};  // when the last message arrives, each way
};

class Network {
 public:
  Network(Scheduler& scheduler, Faults& faults, std::function<void(const std::string&)> violated)
      : scheduler_(scheduler), faults_(faults), violated_(std::move(violated)) {}

  // Null if no daemon listens.
  std::shared_ptr<Line> Connect(std::int32_t pid);
  // For a daemon that starts. Its end breaks every connection.
  std::unique_ptr<Clients> MakeHub();
  // One connection, any; false if there is none.
  bool CutOne();
  std::size_t connections() const { return lines_.size(); }

  Trouble trouble;
  std::function<void(const std::string&)> trace;

 private:
  friend class Line;
  class Hub;
  void Deliver(commit::ConnectionId id, wire::Request request);
  void Receive(commit::ConnectionId id, Answer answer);
  void Ended(commit::ConnectionId id);
  void BreakAll(const std::string& why);
  base::Duration Delay();
  base::Duration InOrder(base::SteadyTime& last);

  Scheduler& scheduler_;
  Faults& faults_;
  const std::function<void(const std::string&)> violated_;
  Hub* hub_ = nullptr;
  std::uint64_t hubs_ = 0;  // started so far
  commit::ConnectionId next_id_ = 1;
  std::map<commit::ConnectionId, Line*> lines_;  // not broken
};

}  // namespace belay::checkpoint::sim
