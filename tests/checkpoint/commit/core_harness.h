// Drives a commit core by hand: requests in, replies and orders out, the daemon's part played by the test.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/commit/core.h"

namespace belay::checkpoint::commit {

inline const JobKey kJob{"default", "gpt"};

class CoreHarness {
 public:
  explicit CoreHarness(CoreConfig config = Config(), Catalogue catalogue = {})
      : core_(std::make_unique<Core>(config, std::move(catalogue), base::SteadyTime{})) {}

  static CoreConfig Config() {
    CoreConfig config;
    config.memory_budget_bytes = 1 << 20;
    config.disk_reserve_bytes = 1000;
    return config;
  }

  ConnectionId Connect(std::uint32_t uid = 0, std::int32_t pid = 0) {
    const ConnectionId id = ++last_connection_;
    Send(ConnectionOpened{id, uid, pid == 0 ? static_cast<std::int32_t>(1000 + id) : pid});
    return id;
  }
  void Disconnect(ConnectionId connection) { Send(ConnectionClosed{connection}); }

  std::vector<FolderSpace> Space() const {
    std::vector<FolderSpace> all = {{"/home", 1, disk_available, std::nullopt}};
    all.insert(all.end(), more_folders.begin(), more_folders.end());
    return all;
  }

  // The request's id. Its reply, if there is one yet, is in `replies`.
  std::uint64_t Ask(ConnectionId connection, Request request) {
    const std::uint64_t id = ++last_request_;
    Send(RequestArrived{{connection, id}, std::move(request), Space()});
    return id;
  }
  void Send(const Event& event) {
    for (Action& action : core_->Step(event, now)) {
      if (auto* reply = std::get_if<Reply>(&action.what)) {
        EXPECT_FALSE(replies.contains(reply->ref.id)) << "a request was answered twice";
        replies[reply->ref.id] = reply->body;
      } else if (auto* allocate = std::get_if<AllocateStaging>(&action.what)) {
        orders.push_back(action);
        if (auto_allocate)
          Send(StagingAllocated{allocate->ref, allocate->job, allocate->rank, std::nullopt, allocate->buffer});
      } else {
        orders.push_back(std::move(action));
      }
    }
  }

  template <typename T>
  T Answer(std::uint64_t request) {
    const auto found = replies.find(request);
    if (found == replies.end()) {
      ADD_FAILURE() << "no answer yet";
      return T{};
    }
    if (const auto* error = std::get_if<base::Error>(&found->second)) {
      if constexpr (!std::is_same_v<T, base::Error>) ADD_FAILURE() << error->Text();
    }
    const T* body = std::get_if<T>(&found->second);
    if (body == nullptr) {
      ADD_FAILURE() << "another kind of answer";
      return T{};
    }
    return *body;
  }
  bool Answered(std::uint64_t request) const { return replies.contains(request); }
  base::Code CodeOf(std::uint64_t request) {
    const auto found = replies.find(request);
    if (found == replies.end() || !std::holds_alternative<base::Error>(found->second)) return base::Code{0};
    return std::get<base::Error>(found->second).code;
  }
  bool Ok(std::uint64_t request) { return Answered(request) && CodeOf(request) == base::Code{0}; }

  // Takes the oldest order of this kind.
  template <typename T>
  std::optional<T> Take() {
    for (auto at = orders.begin(); at != orders.end(); ++at) {
      if (T* order = std::get_if<T>(&at->what)) {
        T taken = std::move(*order);
        orders.erase(at);
        return taken;
      }
    }
    return std::nullopt;
  }
  template <typename T>
  std::size_t Count() const {
    std::size_t count = 0;
    for (const Action& action : orders) count += std::holds_alternative<T>(action.what) ? 1 : 0;
    return count;
  }

  // --- whole passages ---

  // A launcher that holds the job; answers its generation.
  base::Generation BeginRunOf(ConnectionId launcher, std::int32_t world, std::int32_t pid = 77,
                              base::Generation continues = {}, const JobKey& job = kJob) {
    const auto request = Ask(launcher, BeginRun{job, world, "host", pid, continues});
    Persist();
    return Answer<RunGrant>(request).generation;
  }
  void Persist() {
    if (const auto order = Take<PersistGeneration>()) {
      Send(GenerationPersisted{order->job, order->generation, std::nullopt});
    }
  }
  ConnectionId AttachRank(int rank, std::int32_t world, base::Generation generation, std::uint64_t bytes = 8192,
                          Retention retention = {}, const JobKey& job = kJob) {
    const ConnectionId connection = Connect();
    const auto request = Ask(connection, AttachOf(rank, world, generation, bytes, retention, job));
    EXPECT_TRUE(Ok(request));
    return connection;
  }
  static Attach AttachOf(int rank, std::int32_t world, base::Generation generation, std::uint64_t bytes = 8192,
                         Retention retention = {}, const JobKey& job = kJob) {
    return Attach{job, generation, base::Rank(rank), world, bytes, "fingerprint", retention};
  }
  static SealSnapshot SealOf(int rank, std::int64_t step) {
    const std::string name = RecordsFileName(base::Rank(rank));
    SealSnapshot seal;
    seal.step = base::Step(step);
    seal.files = {{name.substr(0, name.find('.')) + ".model.safetensors", 0, 4096}};
    seal.records = "{}";
    return seal;
  }
  // Plays the writer of the oldest order.
  bool FinishWrite(std::optional<base::Error> error = std::nullopt, bool inspected = true) {
    const auto order = Take<StartWrite>();
    if (!order) return false;
    WriteFinished finished{order->job, order->id, order->rank, std::move(error), {}, 0.5};
    if (inspected) finished.files.push_back(InspectedFile{});
    Send(finished);
    return true;
  }
  bool FinishManifest(std::optional<base::Error> error = std::nullopt) {
    const auto order = Take<PublishManifest>();
    if (!order) return false;
    CommittedInfo info;
    info.bytes = 100;
    info.world_size = order->world_size;
    for (const auto& rank : order->ranks) info.metrics.insert(rank.metrics.begin(), rank.metrics.end());
    Send(ManifestFinished{order->job, order->id, std::move(error), "{manifest}", info});
    return true;
  }
  bool FinishDiscard() {
    const auto order = Take<DiscardFiles>();
    if (order) Send(DiscardFinished{order->job, order->id});
    return order.has_value();
  }
  bool FinishDelete(std::optional<base::Error> error = std::nullopt) {
    const auto order = Take<DeleteCheckpoint>();
    if (order) Send(RemoveFinished{order->job, order->id, std::move(error), Space()});
    return order.has_value();
  }
  // A save of all these ranks, committed.
  void Save(const std::vector<ConnectionId>& ranks, std::int64_t step) {
    for (const ConnectionId rank : ranks) EXPECT_TRUE(Ok(Ask(rank, BeginSnapshot{base::Step(step), "interval"})));
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      EXPECT_TRUE(Ok(Ask(ranks[i], SealOf(static_cast<int>(i), step))));
    }
    while (FinishWrite()) {
    }
    EXPECT_TRUE(FinishManifest());
  }
  std::vector<RestorePoint> Points(const JobKey& job = kJob) {
    const ConnectionId asker = Connect();
    const auto points = Answer<std::vector<RestorePoint>>(Ask(asker, RestorePoints{job}));
    Disconnect(asker);
    return points;
  }
  SnapshotOutcome OutcomeNow(ConnectionId rank, std::int64_t step) {
    return Answer<SnapshotOutcome>(Ask(rank, WaitSnapshot{base::Step(step), 0}));
  }

  Core& core() { return *core_; }
  base::SteadyTime now{};
  std::uint64_t disk_available = 1 << 30;
  std::vector<FolderSpace> more_folders;  // beside the one with `disk_available`
  bool auto_allocate = true;
  std::map<std::uint64_t, ReplyBody> replies;
  std::deque<Action> orders;

 private:
  std::unique_ptr<Core> core_;
  ConnectionId last_connection_ = 0;
  std::uint64_t last_request_ = 0;
};

}  // namespace belay::checkpoint::commit
