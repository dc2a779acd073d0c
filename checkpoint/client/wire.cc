#include "checkpoint/client/wire.h"

#include <limits>
#include <set>
#include <utility>

#include "checkpoint/format/strict_json.h"

namespace belay::checkpoint {
namespace {

using base::Code;
using base::Fail;
using base::Result;

// A file's image must lie inside what a descriptor can address.
constexpr std::uint64_t kOffsetMax = std::numeric_limits<std::int64_t>::max();

JobKey JobFromWire(const wire::JobKey& key) { return JobKey{key.project(), key.job()}; }

base::Status CheckWorld(std::int32_t world_size) {
  if (world_size < 1) return Fail(Code::kProtocol, "belayd named a world of ", world_size, " ranks");
  return {};
}

// A belayd that says nothing of it, or what cannot be, has the default.
BulkReport BulkFromWire(const wire::BulkReport& bulk) {
  const base::BulkShape shape{bulk.block_bytes(), bulk.queue_depth()};
  return base::IsUsable(shape) ? BulkReport{shape, bulk.measured()} : BulkReport();
}

}  // namespace

void ToWire(const JobKey& key, wire::JobKey* out) {
  out->set_project(ToUtf8(key.project));
  out->set_job(ToUtf8(key.job));
}

void ToWire(const CheckpointKey& key, wire::CheckpointKey* out) {
  ToWire(key.job, out->mutable_key());
  out->set_step(key.step.value());
  out->set_generation(key.generation.value());
}

void ToWire(const AttachRequest& request, wire::Attach* out) {
  ToWire(request.job, out->mutable_key());
  out->set_generation(request.generation.value());
  out->set_rank(request.rank.value());
  out->set_world_size(request.world_size);
  out->set_staging_bytes(request.staging_bytes);
  out->set_layout_fingerprint(ToUtf8(request.layout_fingerprint));
  auto* retention = out->mutable_retention();
  retention->set_keep_last(request.retention.keep_last);
  retention->set_keep_every(request.retention.keep_every);
  retention->set_keep_best(request.retention.keep_best);
  retention->set_metric(ToUtf8(request.retention.metric));
  retention->set_larger_is_better(request.retention.larger_is_better);
  out->set_window_bytes_min(request.window_bytes_min);
  if (request.numa_node) out->set_numa_node(*request.numa_node);
  out->set_takes_more_buffers(request.takes_more_buffers);
}

void ToWire(const WaveRequest& request, wire::WriteWave* out) {
  out->set_step(request.step.value());
  out->set_name(ToUtf8(request.name));
  out->set_file_bytes(request.file_bytes);
  out->set_file_offset(request.file_offset);
  out->set_offset(request.offset);
  out->set_bytes(request.bytes);
}

void ToWire(const SealRequest& request, wire::SealSnapshot* out) {
  out->set_step(request.step.value());
  for (const SealedFile& file : request.files) {
    auto* sealed = out->add_files();
    sealed->set_name(ToUtf8(file.name));
    sealed->set_offset(file.offset);
    sealed->set_bytes(file.bytes);
    if (file.origin) {
      sealed->set_origin_step(file.origin->step.value());
      sealed->set_origin_generation(file.origin->generation.value());
    }
  }
  out->set_records(request.records);
  for (const auto& [name, value] : request.metrics) (*out->mutable_metrics())[ToUtf8(name)] = value;
  out->set_parent_step(request.parent_step ? request.parent_step->value() : -1);
}

base::Error FromWire(const wire::Failure& failure) {
  const Code code = base::CodeFromNumber(failure.code());
  std::string message = failure.message();
  if (message.empty()) message = base::Describe(code).meaning;
  if (static_cast<std::uint32_t>(code) != failure.code()) {
    message += base::Str(" (belayd's error number ", failure.code(), ", which this build does not know)");
  }
  return base::Error{code, std::move(message), nullptr};
}

Result<RunGrant> FromWire(const wire::RunGrant& grant) {
  if (grant.generation() == 0) return Fail(Code::kProtocol, "belayd granted a run without a generation");
  RunGrant out{base::Generation(grant.generation()), std::nullopt, grant.suspects()};
  if (grant.newest_step() >= 0) out.newest_step = base::Step(grant.newest_step());
  return out;
}

Result<SnapshotOutcome> FromWire(const wire::SnapshotOutcome& outcome) {
  const int state = static_cast<int>(outcome.state());
  if (state < static_cast<int>(SnapshotState::kFilling) || state > static_cast<int>(SnapshotState::kFailed)) {
    return Fail(Code::kProtocol, "belayd named a snapshot state ", state, " that this build does not know");
  }
  SnapshotOutcome out;
  out.step = base::Step(outcome.step());
  out.state = static_cast<SnapshotState>(state);
  if (outcome.has_failure()) out.failure = FromWire(outcome.failure());
  out.write_seconds = outcome.write_seconds();
  out.bytes = outcome.bytes();
  return out;
}

Result<std::vector<RestorePoint>> FromWire(const wire::RestorePointList& list) {
  std::vector<RestorePoint> out;
  out.reserve(static_cast<std::size_t>(list.points_size()));
  for (const wire::RestorePoint& point : list.points()) {
    BELAY_TRY(CheckWorld(point.world_size()));
    if (!point.in_memory() && !point.committed()) {
      return Fail(Code::kProtocol, "belayd offers step ", point.step(), ", which it has neither in memory nor on disk");
    }
    out.push_back({base::Step(point.step()), base::Generation(point.generation()), point.in_memory(),
                   point.world_size(), point.committed(), point.suspect()});
  }
  return out;
}

Trust FromWire(const wire::Trust& trust) {
  // A state that a newer daemon knows says nothing to this program.
  return {ParseTrust(trust.state()).value_or(TrustState::kUnknown), trust.failed_resumes(), {}, trust.reason()};
}

Result<std::vector<CheckpointInfo>> FromWire(const wire::CheckpointList& list) {
  std::vector<CheckpointInfo> out;
  out.reserve(static_cast<std::size_t>(list.checkpoints_size()));
  for (const wire::CheckpointInfo& info : list.checkpoints()) {
    BELAY_TRY(CheckWorld(info.world_size()));
    CheckpointInfo item;
    item.key.job = JobFromWire(info.checkpoint().key());
    item.key.step = base::Step(info.checkpoint().step());
    item.key.generation = base::Generation(info.checkpoint().generation());
    item.bytes = info.bytes();
    item.created = info.created();
    item.reason = info.reason();
    item.directory = info.directory();
    item.digest = info.digest();
    item.world_size = info.world_size();
    item.pinned = info.pinned();
    item.quarantine = info.quarantine();
    item.trust = FromWire(info.trust());
    item.in_memory = info.in_memory();
    for (const auto& [name, value] : info.metrics()) item.metrics[name] = value;
    out.push_back(std::move(item));
  }
  return out;
}

Result<DaemonReport> FromWire(const wire::DaemonReport& report) {
  DaemonReport out;
  out.pid = report.pid();
  out.belay_version = report.belay_version();
  out.data_dir = report.data_dir();
  out.socket = report.socket();
  out.writer = report.writer();
  out.uptime_seconds = report.uptime_seconds();
  out.staging_bytes = report.staging_bytes();
  out.disk_available_bytes = report.disk_available_bytes();
  out.disk_total_bytes = report.disk_total_bytes();
  out.checkpoints = report.checkpoints();
  out.checkpoint_bytes = report.checkpoint_bytes();
  out.connections = report.connections();
  out.is_private = report.private_();
  out.scrub = {report.scrub().bytes_per_second(),
               report.scrub().under_way(),
               report.scrub().began(),
               report.scrub().ended(),
               report.scrub().files(),
               report.scrub().bytes(),
               report.scrub().damaged(),
               report.scrub().unreadable()};
  out.restart = {report.restart().attempts(),    report.restart().failure(), report.restart().from_version(),
                 report.restart().snapshots(),   report.restart().bytes(),   report.restart().lost(),
                 report.restart().away_seconds()};
  out.bulk = BulkFromWire(report.bulk());
  for (const wire::DataFolder& folder : report.also()) {
    out.also.push_back({folder.path(), folder.disk_available_bytes(), folder.disk_total_bytes(), folder.retired(),
                        folder.missing(), BulkFromWire(folder.bulk())});
  }
  for (const wire::RunInfo& run : report.runs()) {
    out.runs.push_back({JobFromWire(run.key()), base::Generation(run.generation()), run.world_size(), run.attached(),
                        run.launcher_pid()});
  }
  return out;
}

ReindexReport FromWire(const wire::ReindexReport& report) {
  return {report.checkpoints(), {report.problems().begin(), report.problems().end()}};
}

Result<OpenedCheckpoint> FromWire(const wire::OpenedCheckpoint& opened, std::vector<base::UniqueFd> descriptors) {
  if (descriptors.size() != static_cast<std::size_t>(opened.files_size())) {
    return Fail(Code::kProtocol, "belayd opened ", opened.files_size(), " files but passed ", descriptors.size(),
                " descriptors");
  }
  OpenedCheckpoint out;
  BELAY_ASSIGN(out.manifest, DecodeManifest(opened.manifest()));
  for (int i = 0; i < opened.files_size(); ++i) {
    const wire::OpenedFile& file = opened.files(i);
    if (file.offset() > kOffsetMax || file.bytes() > kOffsetMax - file.offset()) {
      return Fail(Code::kProtocol, "belayd placed ", file.name(), " beyond any file's end");
    }
    out.files.push_back(
        {file.name(), std::move(descriptors[static_cast<std::size_t>(i)]), file.offset(), file.bytes()});
  }
  return out;
}

Result<Attachment> FromWire(const wire::Attached& attached, std::vector<base::UniqueFd> descriptors) {
  if (descriptors.size() != 1) {
    return Fail(Code::kProtocol, "belayd attached this rank with ", descriptors.size(),
                " descriptors instead of the one of its staging memory");
  }
  return Attachment{std::move(descriptors.front()), attached.staging_bytes(), attached.reused()};
}

Result<Begun> FromWire(const wire::Begun& begun, std::vector<base::UniqueFd> descriptors) {
  if (begun.buffer() == 0 || descriptors.size() != 1) {
    return Fail(Code::kProtocol, "belayd began a snapshot in buffer ", begun.buffer(), " with ", descriptors.size(),
                " descriptors");
  }
  return Begun{begun.buffer(), std::move(descriptors.front()), begun.bytes()};
}

Result<wire::Response> DecodeResponse(std::string_view body) {
  wire::Response response;
  if (body.size() > base::kMessageBytesMax || !response.ParseFromArray(body.data(), static_cast<int>(body.size()))) {
    return Fail(Code::kProtocol, "belayd sent ", body.size(), " bytes that are not a response");
  }
  return response;
}

}  // namespace belay::checkpoint
