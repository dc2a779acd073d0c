#include "checkpoint/commit/core.h"
#include "checkpoint/daemon/handover.h"
#include "tests/fuzz/fuzz_target.h"

// Whatever a hand-over record says: it decodes or not, what decodes keeps its shape through another encoding, and a
// core takes a job of it up whole or leaves it.
BELAY_FUZZ_TARGET(data) {
  using namespace belay;
  using namespace belay::checkpoint;
  const auto handover = DecodeHandover(data);
  if (!handover) {
    FUZZ_CHECK(!handover.error().message.empty());
    return;
  }
  const auto again = DecodeHandover(EncodeHandover(*handover));
  FUZZ_CHECK(again.has_value() && again->jobs.size() == handover->jobs.size());
  commit::Catalogue catalogue;
  for (const Handover::Job& one : handover->jobs) {
    std::size_t buffers = 0;
    for (const commit::HandedSlot& held : one.job.slots) buffers += held.slot.buffers.size();
    FUZZ_CHECK(one.descriptors.size() == buffers);
    catalogue[one.job.key].generation = one.job.generation;
  }
  commit::CoreConfig config;
  config.clients_awaited = handover->clients_awaited;
  commit::Core core(config, std::move(catalogue), {});
  for (const Handover::Job& one : handover->jobs) {
    const bool taken = core.TakeUp(one.job).has_value();
    const commit::Job& job = core.state().jobs.at(one.job.key);
    if (taken) FUZZ_CHECK(job.staging.size() == one.job.slots.size());
  }
  core.Step(commit::ConnectionOpened{1, 0, 1}, {});
  for (const Handover::Job& one : handover->jobs) {
    core.Step(commit::RequestArrived{{1, 1}, commit::RestorePoints{one.job.key}, {}}, {});
  }
}
