#include "tests/sim/machine.h"

#include <algorithm>

#include "checkpoint/daemon/startup.h"
#include "checkpoint/spread/join.h"
#include "runtime/base/fault_points.h"
#include "runtime/base/shared_memory.h"

namespace belay::checkpoint::sim {

using base::Code;

namespace {
constexpr base::Duration kTurnDelay = std::chrono::microseconds(100);
constexpr base::Duration kTaskDelay = std::chrono::milliseconds(3);
constexpr base::Duration kRestartDelay = std::chrono::milliseconds(80);
}  // namespace

class Machine::MemoryStaging final : public Staging {
 public:
  explicit MemoryStaging(std::shared_ptr<std::size_t> count) : count_(std::move(count)) {}
  ~MemoryStaging() override { *count_ = 0; }

  base::Status Allocate(const StagingKey& key, std::uint64_t bytes, std::optional<std::int32_t> /*numa_node*/,
                        Touched touched) override {
    BELAY_TRY(base::FaultPoint("staging.allocate"));
    BELAY_ASSIGN(base::UniqueFd fd, base::CreateSharedMemory({.name = "sim-staging", .size_bytes = bytes}));
    BELAY_ASSIGN(base::Mapping mapping, base::MapSharedMemory(fd.get(), bytes, base::MapAccess::kReadWrite));
    memories_[key] = std::make_shared<StagingMemory>(std::move(fd), std::move(mapping));
    *count_ = memories_.size();
    if (touched) touched({});
    return {};
  }
  void Free(const std::string& owner, base::Rank rank, std::size_t from_buffer) override {
    std::erase_if(memories_, [&](const auto& one) {
      return one.first.owner == owner && one.first.rank == rank && one.first.buffer >= from_buffer;
    });
    *count_ = memories_.size();
  }
  std::shared_ptr<StagingMemory> Find(const StagingKey& key) const override {
    const auto found = memories_.find(key);
    return found == memories_.end() ? nullptr : found->second;
  }

 private:
  std::map<StagingKey, std::shared_ptr<StagingMemory>> memories_;
  const std::shared_ptr<std::size_t> count_;
};

std::vector<std::string> AlsoDataDirs(std::uint64_t seed) {
  std::vector<std::string> all = {"/nvme1", "/nvme2"};
  all.resize(base::Mix64(seed + 3) % 3);
  return all;
}

Machine::Machine(Parts parts, commit::CoreConfig core, std::vector<std::string> also, Handlers handlers)
    : parts_(parts), core_(core), also_(std::move(also)), handlers_(std::move(handlers)) {
  parts_.scheduler.OnEvent([this] { AfterEvent(); });
}

Machine::~Machine() = default;

void Machine::Interleave(bool on) {
  interleave_ = on;
  parts_.faults.interleave = on && service_ != nullptr;
}

void Machine::Start() {
  if (service_ != nullptr) return;
  handlers_.trace("the daemon starts");
  const std::uint64_t errors = parts_.faults.errors();
  spread::DataFolders others;
  if (std::exchange(index_lost_, false)) {
    parts_.faults.coverage().Count(Kind::kIndexLost);
    parts_.index.Clear();
  }
  const OpenIndex open_index = [this](base::FileSystem&,
                                      const std::string&) -> base::Result<std::unique_ptr<base::Index>> {
    if (std::exchange(index_damaged_, false)) {
      parts_.faults.coverage().Count(Kind::kIndexDamaged);
      parts_.index.Clear();  // its folder will be removed
      return base::Fail(Code::kCorrupt, "made-up error: the index cannot be read");
    }
    return std::make_unique<GatedIndex>(parts_.index, parts_.faults);
  };
  auto recovered = [&]() -> base::Result<Recovered> {
    BELAY_TRY(base::MakeDirectories(parts_.disk, index::Folders(kDataDir).OwnFolder()));
    std::uint64_t ids = parts_.scheduler.rng().Next();
    const auto fresh_id = [&ids] {
      const std::string digits = std::to_string(++ids);
      return std::string(32 - digits.size(), '0') + digits;
    };
    BELAY_ASSIGN(others, spread::Join(parts_.disk, kDataDir, {also_, {}}, fresh_id));
    return Recover(parts_.disk, index::Folders(kDataDir, others), core_.daemon_uid, open_index);
  }();
  if (parts_.faults.ghost()) {
    parts_.faults.coverage().Count(Kind::kKilledInStartup);
    return;  // it is being buried
  }
  if (!recovered) {
    handlers_.trace("it cannot: " + recovered.error().Text());
    return StartLater();
  }
  half_blind = parts_.faults.errors() != errors;
  parts_.faults.coverage().Count(Kind::kDaemonStarted);
  ServiceOptions options;
  options.data_dir = kDataDir;
  options.folders = std::move(others);
  options.core = core_;
  options.scrub.bytes_per_second = 0;  // its reads wait for their turn on the thread they are made on
  options.probe.enabled = false;       // there is no device
  ServiceParts daemon{
      std::make_unique<MemoryStaging>(staging_count_),         parts_.network.MakeHub(),
      std::make_unique<Lane>(parts_.scheduler, 1, kTaskDelay), std::make_unique<Lane>(parts_.scheduler, 1, kTaskDelay),
      std::make_unique<Lane>(parts_.scheduler, 4, kTaskDelay), std::make_unique<Lane>(parts_.scheduler, 4, kTaskDelay),
      std::make_unique<Lane>(parts_.scheduler, 1, kTaskDelay)};
  service_ = std::make_unique<Service>(options, parts_.disk, parts_.clock, std::move(daemon),
                                       std::move(recovered->index), std::move(recovered->catalogue));
  ++life_;
  turn_armed_ = turning_ = idle_turn_ = false;
  parts_.faults.interleave = interleave_;
  service_->Start();
  TurnSoon(kTurnDelay);
}

void Machine::DieSoon(std::uint64_t calls, bool power) {
  parts_.faults.DieIn(calls, [this, power] {
    handlers_.trace(power ? "the power goes" : "the daemon dies");
    parts_.faults.coverage().Count(power ? Kind::kPowerLost : Kind::kKilled);
    parts_.scheduler.AtTop([this, power] { Bury(power); });
  });
}

void Machine::Bury(bool power) {
  service_.reset();
  ++life_;
  parts_.faults.interleave = false;
  if (power) {
    parts_.files.Crash(parts_.scheduler.rng().Next());
    parts_.files.SetReadOnly(false);
    handlers_.power_lost();
  }
  parts_.faults.Bury();
  StartLater();
}

void Machine::StartLater() {
  parts_.scheduler.After(parts_.scheduler.Some(kRestartDelay), [this] { parts_.scheduler.AtTop([this] { Start(); }); });
}

void Machine::Stop() {
  if (!up()) return;
  handlers_.trace("the daemon gets SIGTERM");
  parts_.faults.coverage().Count(Kind::kStopped);
  service_->Stop();
}

void Machine::Left() {
  handlers_.trace("the daemon leaves");
  service_.reset();
  ++life_;
  parts_.faults.interleave = false;
  StartLater();
}

void Machine::AfterEvent() {
  if (service_ == nullptr || turn_armed_ || turning_) return;
  if (std::exchange(idle_turn_, false)) {  // that event was a turn that found nothing to do
    const auto deadline = service_->NextDeadline();
    if (!deadline) return;
    // Not armed: an event that comes first brings its own turn.
    parts_.scheduler.After(*deadline - parts_.scheduler.now(), [] {});
    return;
  }
  TurnSoon(parts_.scheduler.Some(kTurnDelay));
}

void Machine::TurnSoon(base::Duration delay) {
  turn_armed_ = true;
  parts_.scheduler.After(delay, [this, life = life_] {
    if (life != life_ || service_ == nullptr) return;
    turn_armed_ = false;
    if (turning_ || parts_.faults.ghost()) return;
    turning_ = true;
    idle_turn_ = !service_->Turn();
    turning_ = false;
    if (service_->exited() && !parts_.faults.ghost()) {
      ++life_;
      parts_.scheduler.AtTop([this] { Left(); });
    }
  });
}

}  // namespace belay::checkpoint::sim
