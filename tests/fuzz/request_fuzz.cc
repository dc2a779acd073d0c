// The daemon's side of the protocol: requests as bytes, their translation, and the commit core that takes them at their
// word.
//
// The input is a script. Its operations: a byte, then what it needs.
//   0..3  a request on connection 0..3: a byte with its length, then the message
//   4     connection n (next byte) is closed and opened again
//   5, 6  the oldest order of the core is done well, or fails
//   7     time passes: next byte times 100 ms
#include <array>
#include <deque>
#include <set>

#include "checkpoint/commit/core.h"
#include "checkpoint/daemon/wire.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

using namespace belay;
using namespace belay::checkpoint;
using namespace belay::checkpoint::commit;

constexpr std::size_t kConnections = 4;
constexpr std::size_t kOperationsMax = 200;
const std::vector<FolderSpace> kRoom = {{"/data", 1, 1U << 30, std::nullopt}};

class Daemon {
 public:
  using Failure = std::optional<base::Error>;

  Daemon() : core_(Config(), {}, now_) {
    for (std::size_t i = 0; i < kConnections; ++i) Open(i);
  }

  void Run(std::string_view script) {
    for (std::size_t count = 0; !script.empty() && !gone_ && count < kOperationsMax; ++count) {
      const auto next = [&script]() -> std::uint8_t {
        if (script.empty()) return 0;
        const auto byte = static_cast<std::uint8_t>(script.front());
        script.remove_prefix(1);
        return byte;
      };
      const std::uint8_t operation = next() % 8;
      if (operation < kConnections) {
        const std::string_view message = script.substr(0, next());
        script.remove_prefix(std::min(script.size(), message.size()));
        Ask(operation, message);
      } else if (operation == 4) {
        const std::size_t which = next() % kConnections;
        Send(ConnectionClosed{open_[which]});
        Open(which);
      } else if (operation == 7) {
        now_ += std::chrono::milliseconds(100) * next();
        Send(Tick{});
      } else if (!orders_.empty()) {
        const Action order = std::move(orders_.front());
        orders_.pop_front();
        const Failure error =
            operation == 5 ? std::nullopt : std::optional(base::Error{base::Code::kNoSpace, "full", nullptr});
        std::visit([&](const auto& what) { Finish(what, error); }, order.what);
      }
    }
  }

 private:
  static CoreConfig Config() {
    CoreConfig config;
    config.memory_budget_bytes = 1 << 20;
    config.disk_reserve_bytes = 1000;
    return config;
  }

  void Open(std::size_t which) {
    open_[which] = ++last_connection_;
    Send(ConnectionOpened{open_[which], 0, static_cast<std::int32_t>(100 + which)});
  }

  void Ask(std::size_t which, std::string_view bytes) {
    wire::Request message;
    if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
    auto request = FromWire(message);
    if (!request) {
      FUZZ_CHECK(!request.error().message.empty());
      return;
    }
    Send(RequestArrived{{open_[which], ++last_request_}, std::move(*request), kRoom});
  }

  void Send(const Event& event) {
    for (Action& action : core_.Step(event, now_)) {
      if (const auto* reply = std::get_if<Reply>(&action.what)) {
        FUZZ_CHECK(answered_.insert(reply->ref.id).second);
        wire::Response response;
        ToWire(reply->body, folders_, response);
      } else if (std::holds_alternative<Exit>(action.what)) {
        gone_ = true;
        for (const HandedJob& job : core_.HandOver().jobs) {  // whatever it came to be, another one can have it
          Catalogue files;
          files[job.key].generation = job.generation;
          FUZZ_CHECK(Core(Config(), std::move(files), now_).TakeUp(job).has_value() || job.memory);
        }
      } else {
        if (const auto* publish = std::get_if<PublishManifest>(&action.what)) {
          FUZZ_CHECK(publish->ranks.size() == static_cast<std::size_t>(publish->world_size));
        }
        if (const auto* allocate = std::get_if<AllocateStaging>(&action.what)) {
          FUZZ_CHECK(allocate->bytes <= Config().memory_budget_bytes);
        }
        orders_.push_back(std::move(action));
      }
    }
  }

  void Finish(const AllocateStaging& o, const Failure& error) {
    Send(StagingAllocated{o.ref, o.job, o.rank, error, o.buffer});
  }
  void Finish(const PersistGeneration& o, const Failure& error) {
    Send(GenerationPersisted{o.job, o.generation, error});
  }
  void Finish(const StartWrite& o, const Failure& error) {
    Send(WriteFinished{o.job, o.id, o.rank, error, {InspectedFile{}}, 0.1});
  }
  void Finish(const WriteWavePiece& o, const Failure& error) { Send(WaveFinished{o.ref, o.job, o.id, o.rank, error}); }
  void Finish(const PublishManifest& o, const Failure& error) {
    CommittedInfo info;
    info.world_size = o.world_size;
    Send(ManifestFinished{o.job, o.id, error, "{}", info});
  }
  void Finish(const DiscardFiles& o, const Failure&) { Send(DiscardFinished{o.job, o.id}); }
  void Finish(const DeleteCheckpoint& o, const Failure& error) { Send(RemoveFinished{o.job, o.id, error, kRoom}); }
  void Finish(const PersistPin& o, const Failure& error) { Send(PinFinished{o.ref, o.job, o.id, o.pinned, error}); }
  void Finish(const PersistTrust& o, const Failure& error) { Send(TrustFinished{o.ref, o.job, o.id, o.trust, error}); }
  void Finish(const PersistQuarantine& o, const Failure& error) {
    Send(QuarantineFinished{o.ref, o.job, o.id, o.reason, error});
  }
  void Finish(const RebuildIndex& o, const Failure& error) { Send(ReindexFinished{o.ref, error, {}, {}}); }
  void Finish(const CheckSuccessor& o, const Failure& error) { Send(SuccessorChecked{o.ref, error}); }
  template <typename Other>  // the daemon answers them by itself
  void Finish(const Other&, const Failure&) {}

  base::SteadyTime now_{};
  Core core_;
  index::Folders folders_{"/data"};
  std::array<ConnectionId, kConnections> open_{};
  ConnectionId last_connection_ = 0;
  std::uint64_t last_request_ = 0;
  std::set<std::uint64_t> answered_;
  std::deque<Action> orders_;
  bool gone_ = false;
};

}  // namespace

// Whatever clients send, and however their messages fall between each other and the disk's answers, the daemon lives
// on.
BELAY_FUZZ_TARGET(data) { Daemon().Run(data); }
