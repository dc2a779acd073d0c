#include "launcher/run/job_status.h"

namespace belay::launcher {

RankProgress FromWire(const wire::Progress& wire) {
  RankProgress progress;
  progress.attached = wire.attached();
  progress.phase = wire.phase();
  progress.step = wire.step();
  progress.total_steps = wire.total_steps();
  progress.committed_step = wire.committed_step();
  progress.resumed_step = wire.resumed_step();
  progress.outcome = wire.outcome();
  progress.loss = wire.loss();
  progress.samples_per_second = wire.samples_per_second();
  progress.tokens_per_second = wire.tokens_per_second();
  progress.stall_ms = wire.stall_ms();
  progress.data_wait_ms = wire.data_wait_ms();
  progress.resumed_generation = wire.resumed_generation();
  progress.trust_steps = wire.trust_steps();
  progress.diverged = wire.diverged();
  return progress;
}

void ToWire(const RankProgress& progress, wire::Progress& wire) {
  wire.set_attached(progress.attached);
  wire.set_phase(progress.phase);
  wire.set_step(progress.step);
  wire.set_total_steps(progress.total_steps);
  wire.set_committed_step(progress.committed_step);
  wire.set_resumed_step(progress.resumed_step);
  wire.set_outcome(progress.outcome);
  wire.set_loss(progress.loss);
  wire.set_samples_per_second(progress.samples_per_second);
  wire.set_tokens_per_second(progress.tokens_per_second);
  wire.set_stall_ms(progress.stall_ms);
  wire.set_data_wait_ms(progress.data_wait_ms);
  wire.set_resumed_generation(progress.resumed_generation);
  wire.set_trust_steps(progress.trust_steps);
  wire.set_diverged(progress.diverged);
}

wire::JobStatus MakeJobStatus(const SupervisorState& state, const RunOptions& options, const std::string& run_directory,
                              double running_seconds, std::int32_t launcher_pid) {
  wire::JobStatus status;
  status.set_project(options.project);
  status.set_job(options.job);
  status.set_generation(state.generation.value());
  status.set_state(std::string(Name(state.job)));
  status.set_restarts(state.restarts);
  status.set_running_seconds(running_seconds);
  status.set_launcher_pid(launcher_pid);
  status.set_stop_requested(state.stop_requested);
  status.set_run_directory(run_directory);
  for (const RankRecord& rank : state.ranks) {
    wire::RankStatus& r = *status.add_ranks();
    r.set_rank(rank.rank);
    r.set_host(rank.host);
    r.set_pid(rank.pid);
    r.set_state(std::string(Name(rank.state)));
    r.set_log_path(rank.log_path);
    ToWire(rank.progress, *r.mutable_progress());
  }
  return status;
}

}  // namespace belay::launcher
