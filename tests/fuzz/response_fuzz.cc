#include "checkpoint/client/wire.h"
#include "tests/fuzz/fuzz_target.h"

// Whatever a daemon sends, the client answers with a value or an error.
BELAY_FUZZ_TARGET(data) {
  using namespace belay::checkpoint;
  const auto response = DecodeResponse(data);
  if (!response) return;
  if (response->has_failure()) {
    FUZZ_CHECK(!FromWire(response->failure()).message.empty());
  }
  if (const auto grant = FromWire(response->run_grant())) FUZZ_CHECK(grant->generation.value() > 0);
  if (const auto outcome = FromWire(response->snapshot_outcome())) {
    FUZZ_CHECK(outcome->state >= SnapshotState::kFilling && outcome->state <= SnapshotState::kFailed);
  }
  if (const auto points = FromWire(response->restore_point_list())) {
    for (const RestorePoint& point : *points) FUZZ_CHECK(point.world_size >= 1);
  }
  if (const auto list = FromWire(response->checkpoint_list())) {
    FUZZ_CHECK(list->size() == static_cast<std::size_t>(response->checkpoint_list().checkpoints_size()));
  }
  if (const auto report = FromWire(response->daemon_report())) {
    FUZZ_CHECK(report->runs.size() == static_cast<std::size_t>(response->daemon_report().runs_size()));
  }
  FUZZ_CHECK(FromWire(response->reindex_report()).checkpoints == response->reindex_report().checkpoints());
  std::vector<belay::base::UniqueFd> descriptors(static_cast<std::size_t>(response->opened_checkpoint().files_size()));
  if (const auto opened = FromWire(response->opened_checkpoint(), std::move(descriptors))) {
    for (const OpenedFile& file : opened->files) FUZZ_CHECK(file.offset + file.bytes >= file.offset);
  }
}
