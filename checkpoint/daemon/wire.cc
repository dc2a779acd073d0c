#include "checkpoint/daemon/wire.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "checkpoint/format/strict_json.h"

namespace belay::checkpoint {

using base::Code;

namespace {

commit::JobKey JobOf(const wire::JobKey& key) { return {key.project(), key.job()}; }

void ToWire(const commit::JobKey& job, wire::JobKey& key) {
  key.set_project(job.project);
  key.set_job(job.job);
}

commit::SealSnapshot FromWire(const wire::SealSnapshot& seal) {
  commit::SealSnapshot request;
  request.step = base::Step(seal.step());
  for (const wire::SealedFile& file : seal.files()) {
    auto& sealed = request.files.emplace_back(commit::SealedFile{file.name(), file.offset(), file.bytes(), {}});
    if (file.has_origin_step() && file.has_origin_generation()) {
      sealed.origin = {base::Step(file.origin_step()), base::Generation(file.origin_generation())};
    }
  }
  request.records = seal.records();
  for (const auto& [name, value] : seal.metrics()) request.metrics[name] = value;
  if (seal.parent_step() >= 0) request.parent_step = base::Step(seal.parent_step());
  return request;
}

commit::Attach FromWire(const wire::Attach& attach) {
  commit::Attach request;
  request.job = JobOf(attach.key());
  request.generation = base::Generation(attach.generation());
  request.rank = base::Rank(attach.rank());
  request.world_size = attach.world_size();
  request.staging_bytes = attach.staging_bytes();
  request.layout_fingerprint = ToUtf8(attach.layout_fingerprint().substr(0, commit::kTextBytesMax));
  if (attach.has_numa_node()) request.numa_node = attach.numa_node();
  const wire::Retention& retention = attach.retention();
  request.retention = {std::max(1U, retention.keep_last()), retention.keep_every(), retention.keep_best(),
                       retention.metric(), retention.larger_is_better()};
  request.window_bytes_min = attach.window_bytes_min();
  request.takes_more_buffers = attach.takes_more_buffers();
  return request;
}

commit::OpenCheckpoint FromWire(const wire::OpenCheckpoint& open) {
  commit::OpenCheckpoint request;
  request.job = JobOf(open.checkpoint().key());
  request.step = base::Step(open.checkpoint().step());
  request.generation = base::Generation(open.checkpoint().generation());
  request.from_memory = open.from_memory();
  request.files.assign(open.files().begin(), open.files().end());
  return request;
}

void ToWire(const Trust& trust, wire::Trust& out) {
  out.set_state(std::string(TrustName(trust.state)));
  out.set_failed_resumes(trust.failed_resumes);
  out.set_reason(ToUtf8(trust.reason));
}

struct Filler {
  const index::Folders& folders;
  wire::Response& response;

  void operator()(const base::Error& error) const { checkpoint::ToWire(error, *response.mutable_failure()); }
  void operator()(const commit::Done& /*done*/) const { response.mutable_done(); }
  void operator()(const commit::RunGrant& grant) const {
    wire::RunGrant& out = *response.mutable_run_grant();
    out.set_generation(grant.generation.value());
    out.set_newest_step(grant.newest_step ? grant.newest_step->value() : -1);
    out.set_suspects(grant.suspects);
  }
  void operator()(const commit::Attached& attached) const {
    response.mutable_attached()->set_staging_bytes(attached.staging_bytes);
    response.mutable_attached()->set_reused(attached.reused);
  }
  void operator()(const commit::Begun& begun) const {
    if (begun.buffer == 0) {  // that of Attached: what every client understands
      response.mutable_done();
      return;
    }
    response.mutable_begun()->set_buffer(static_cast<std::uint32_t>(begun.buffer));
    response.mutable_begun()->set_bytes(begun.bytes);
  }
  void operator()(const commit::SnapshotOutcome& outcome) const {
    wire::SnapshotOutcome& out = *response.mutable_snapshot_outcome();
    out.set_step(outcome.step.value());
    out.set_state(static_cast<wire::SnapshotState>(outcome.state));
    if (outcome.failure) checkpoint::ToWire(*outcome.failure, *out.mutable_failure());
    out.set_write_seconds(outcome.write_seconds);
    out.set_bytes(outcome.bytes);
  }
  void operator()(const std::vector<commit::RestorePoint>& points) const {
    wire::RestorePointList& out = *response.mutable_restore_point_list();
    for (const commit::RestorePoint& point : points) {
      wire::RestorePoint& one = *out.add_points();
      one.set_step(point.id.step.value());
      one.set_generation(point.id.generation.value());
      one.set_in_memory(point.in_memory);
      one.set_world_size(point.world_size);
      one.set_committed(point.committed);
      one.set_suspect(point.suspect);
    }
  }
  void operator()(const std::vector<commit::CheckpointInfo>& list) const {
    wire::CheckpointList& out = *response.mutable_checkpoint_list();
    for (const commit::CheckpointInfo& info : list) {
      wire::CheckpointInfo& one = *out.add_checkpoints();
      ToWire(info.job, *one.mutable_checkpoint()->mutable_key());
      one.mutable_checkpoint()->set_step(info.id.step.value());
      one.mutable_checkpoint()->set_generation(info.id.generation.value());
      one.set_bytes(info.info.bytes);
      one.set_created(info.info.created);
      one.set_reason(info.info.reason);
      one.set_world_size(info.info.world_size);
      one.set_pinned(info.info.pinned);
      one.set_in_memory(info.in_memory);
      one.set_directory(folders.Checkpoint(info.job, info.id));
      one.set_digest(info.info.digest);
      one.set_quarantine(info.info.quarantine);
      ToWire(info.info.trust, *one.mutable_trust());
      for (const auto& [name, value] : info.info.metrics) (*one.mutable_metrics())[name] = value;
    }
  }
  void operator()(const commit::Judged& judged) const {
    ToWire(judged.trust, *response.mutable_judged()->mutable_trust());
  }
  void operator()(const commit::StatusReport& report) const {
    wire::DaemonReport& out = *response.mutable_daemon_report();
    out.set_staging_bytes(report.staging_bytes);
    out.set_connections(report.connections);
    out.set_checkpoints(report.checkpoints);
    out.set_checkpoint_bytes(report.checkpoint_bytes);
    for (const commit::RunInfo& run : report.runs) {
      wire::RunInfo& one = *out.add_runs();
      ToWire(run.job, *one.mutable_key());
      one.set_generation(run.generation.value());
      one.set_world_size(run.world_size);
      one.set_attached(run.attached);
      one.set_launcher_pid(run.launcher_pid);
    }
  }
  void operator()(const commit::ReindexReport& report) const {
    response.mutable_reindex_report()->set_checkpoints(report.checkpoints);
    for (const std::string& problem : report.problems) response.mutable_reindex_report()->add_problems(ToUtf8(problem));
  }
};

}  // namespace

void ToWire(const base::Error& error, wire::Failure& failure) {
  failure.set_code(static_cast<std::uint32_t>(error.code));
  // Names of files come from the disk, texts of clients are cut at a limit; a client drops a message that is not UTF-8.
  failure.set_message(ToUtf8(error.Text()));
}

void ToWire(const commit::ReplyBody& body, const index::Folders& folders, wire::Response& response) {
  std::visit(Filler{folders, response}, body);
}

base::Result<commit::Request> FromWire(const wire::Request& request) {
  const auto id_of = [](const wire::CheckpointKey& key) {
    return std::make_tuple(JobOf(key.key()), base::Step(key.step()), base::Generation(key.generation()));
  };
  switch (request.body_case()) {
    case wire::Request::kBeginRun: {
      const wire::BeginRun& in = request.begin_run();
      return commit::Request(
          commit::BeginRun{JobOf(in.key()), in.world_size(), in.host(), in.pid(), base::Generation(in.continues())});
    }
    case wire::Request::kHoldRun: {
      const wire::HoldRun& in = request.hold_run();
      return commit::Request(
          commit::HoldRun{JobOf(in.key()), base::Generation(in.generation()), in.world_size(), in.host(), in.pid()});
    }
    case wire::Request::kEndRun:
      return commit::Request(commit::EndRun{JobOf(request.end_run().key()),
                                            base::Generation(request.end_run().generation()),
                                            request.end_run().outcome()});
    case wire::Request::kAttach:
      return commit::Request(FromWire(request.attach()));
    case wire::Request::kBeginSnapshot:
      return commit::Request(
          commit::BeginSnapshot{base::Step(request.begin_snapshot().step()), request.begin_snapshot().reason()});
    case wire::Request::kWriteWave: {
      const wire::WriteWave& in = request.write_wave();
      return commit::Request(commit::WriteWave{
          base::Step(in.step()), {in.name(), in.file_bytes(), in.file_offset(), in.offset(), in.bytes()}});
    }
    case wire::Request::kSealSnapshot:
      return commit::Request(FromWire(request.seal_snapshot()));
    case wire::Request::kAbandonSnapshot:
      return commit::Request(
          commit::AbandonSnapshot{base::Step(request.abandon_snapshot().step()), request.abandon_snapshot().why()});
    case wire::Request::kWaitSnapshot:
      return commit::Request(
          commit::WaitSnapshot{base::Step(request.wait_snapshot().step()), request.wait_snapshot().deadline_ms()});
    case wire::Request::kRestorePoints:
      return commit::Request(commit::RestorePoints{JobOf(request.restore_points().key())});
    case wire::Request::kOpenCheckpoint:
      return commit::Request(FromWire(request.open_checkpoint()));
    case wire::Request::kListCheckpoints:
      return commit::Request(
          commit::ListCheckpoints{request.list_checkpoints().project(), request.list_checkpoints().job()});
    case wire::Request::kPinCheckpoint: {
      auto [job, step, generation] = id_of(request.pin_checkpoint().checkpoint());
      return commit::Request(commit::PinCheckpoint{job, step, generation, request.pin_checkpoint().pinned()});
    }
    case wire::Request::kRemoveCheckpoint: {
      auto [job, step, generation] = id_of(request.remove_checkpoint().checkpoint());
      return commit::Request(commit::RemoveCheckpoint{job, step, generation, request.remove_checkpoint().force()});
    }
    case wire::Request::kDaemonStatus:
      return commit::Request(commit::DaemonStatus{});
    case wire::Request::kDaemonStop:
      return commit::Request(commit::DaemonStop{request.daemon_stop().force()});
    case wire::Request::kDaemonRestart:
      return commit::Request(commit::DaemonRestart{});
    case wire::Request::kReindex:
      return commit::Request(commit::Reindex{});
    case wire::Request::kQuarantineCheckpoint: {
      auto [job, step, generation] = id_of(request.quarantine_checkpoint().checkpoint());
      return commit::Request(
          commit::QuarantineCheckpoint{job, step, generation, request.quarantine_checkpoint().reason()});
    }
    case wire::Request::kJudgeCheckpoint: {
      const wire::JudgeCheckpoint& in = request.judge_checkpoint();
      auto [job, step, generation] = id_of(in.checkpoint());
      return commit::Request(commit::JudgeCheckpoint{job, step, generation,
                                                     static_cast<commit::Judgement>(in.judgement()),
                                                     base::Generation(in.by_generation()), in.reason()});
    }
    case wire::Request::BODY_NOT_SET:
      break;
  }
  return base::Fail(Code::kUnsupported, "this belayd does not know the request; it may be older than the client");
}

}  // namespace belay::checkpoint
