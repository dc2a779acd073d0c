#include "checkpoint/daemon/service_parts.h"

#include <utility>

#include "checkpoint/daemon/wire.h"

namespace belay::checkpoint {

namespace {

HubOptions HubOptionsOf(const ServiceOptions& options) {
  HubOptions hub;
  hub.welcome.set_protocol_version(kProtocolVersion);
  hub.welcome.set_belay_version(options.version);
  hub.welcome.set_pid(options.pid);
  hub.welcome.set_data_dir(options.data_dir);
  hub.welcome.set_instance(base::Str(options.instance));
  hub.daemon_uid = options.uid;
  hub.same_user_only = options.uid != 0 || options.core.is_private;
  return hub;
}

class PooledStaging final : public Staging {
 public:
  PooledStaging(int touch_threads, HeldMemory held) : pool_(touch_threads) {
    for (auto& [key, memory] : held) pool_.TakeUp(key, std::move(memory), std::nullopt);
  }
  base::Status Allocate(const StagingKey& key, std::uint64_t bytes, std::optional<std::int32_t> numa_node,
                        Touched touched) override {
    return pool_.Allocate(key, bytes, numa_node, std::move(touched));
  }
  void Free(const std::string& owner, base::Rank rank, std::size_t from_buffer) override {
    pool_.Free(owner, rank, from_buffer);
  }
  std::shared_ptr<StagingMemory> Find(const StagingKey& key) const override { return pool_.Find(key); }

 private:
  StagingPool pool_;
};

}  // namespace

ServiceParts MachineParts(const ServiceOptions& options, base::Listener& listener, HeldMemory held) {
  return {std::make_unique<PooledStaging>(options.touch_threads, std::move(held)),
          std::make_unique<ConnectionHub>(listener, HubOptionsOf(options)),
          std::make_unique<WorkerPool>(1),
          std::make_unique<WorkerPool>(1),
          std::make_unique<WorkerPool>(options.writers),
          std::make_unique<WorkerPool>(options.writers),
          std::make_unique<WorkerPool>(1)};
}

}  // namespace belay::checkpoint
