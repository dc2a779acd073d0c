// The run's state machine: events in; new state, actions and a reason out. Pure: no I/O, no clock, no threads.
//
// The loop in launcher/run carries the actions out in order and feeds back what happens. Rules it can rely on:
//   - After the last event Step answers kDone exactly once, with a kFinish action that holds the verdict.
//   - Before kDone every attempt that spawned mpirun went through kCleaning, whose kCleanUp action kills mpirun and
//     everything that carries the attempt's mark. So no rank outlives the run.
//   - NextDeadline says when to send a Tick; a state that waits for others always has one, except kRunning, which is
//     the work, and kRenewing, whose wait belayd bounds.
// Events of an earlier attempt must not be fed in (the loop knows which attempt a connection belongs to).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "launcher/supervise/failure_report.h"
#include "launcher/supervise/rank_record.h"
#include "launcher/supervise/resume_fate.h"
#include "launcher/supervise/supervisor_state.h"
#include "runtime/base/clock.h"
#include "runtime/base/ids.h"
#include "runtime/base/result.h"

namespace belay::launcher {

namespace event {
struct Granted {  // belayd granted a generation
  base::Generation generation;
  std::optional<std::int64_t> newest_step;
};
struct Refused {
  base::Error error;
};
struct Registered {
  std::int32_t rank = 0;
  std::int32_t local_rank = 0;
  std::string host;
  std::int32_t shim_pid = 0;
  std::string log_path;
};
struct Started {
  std::int32_t rank = 0;
  std::int32_t pid = 0;
};
struct Progress {
  std::int32_t rank = 0;
  RankProgress progress;
};
struct Exited {
  std::int32_t rank = 0;
  RankExit exit;
  base::SteadyTime at{};  // when the shim saw it
};
struct Lost {
  std::int32_t rank = 0;
};
struct SpawnFailed {  // mpirun could not be started, nor what it needs be made
  base::Error error;
};
struct MpirunExited {
  int status = 0;  // a hint at best
  int signal = 0;
};
struct StopAsked {
  std::string source;
  bool interrupt = false;  // a second one kills
  bool now = false;        // kill without waiting
};
struct CleanedUp {
  std::int32_t killed = 0;     // processes that were still there
  std::int32_t surviving = 0;  // that could not be killed
};
struct DaemonGone {};
struct Tick {};
}  // namespace event
using Event = std::variant<event::Granted, event::Refused, event::Registered, event::Started, event::Progress,
                           event::Exited, event::Lost, event::SpawnFailed, event::MpirunExited, event::StopAsked,
                           event::CleanedUp, event::DaemonGone, event::Tick>;

namespace action {
struct AskGeneration {  // BeginRun; answer with Granted or Refused
  base::Generation continues;
};
struct SpawnMpirun {};  // for state.generation; answer with MpirunExited at its end, or SpawnFailed
struct StartProgram {
  std::int32_t rank = 0;
};
struct StopRank {
  std::int32_t rank = 0;
  bool terminate = false;  // SIGTERM to the program, because it never attached
};
struct KillRank {
  std::int32_t rank = 0;
};
struct ReleaseRank {
  std::int32_t rank = 0;
};
struct JudgeResume {  // tell belayd what this run shows of the checkpoint that it came from, before the next question
                      // to it
  ResumedCheckpoint checkpoint;
  ResumeFate fate = ResumeFate::kProved;
  std::string reason;
};
struct CleanUp {};  // kill mpirun and everything marked; answer with CleanedUp
struct RestartDaemon {};
struct Say {  // one line for the user
  std::string text;
};
struct Report {
  FailureReport report;
  std::string next;
};
struct EndAttempt {  // the attempt's books can be closed: verdict.json of this generation
  bool restarts = false;
};
struct Finish {
  Verdict verdict;
};
}  // namespace action
using Action = std::variant<action::AskGeneration, action::SpawnMpirun, action::StartProgram, action::StopRank,
                            action::KillRank, action::ReleaseRank, action::JudgeResume, action::CleanUp,
                            action::RestartDaemon, action::Say, action::Report, action::EndAttempt, action::Finish>;

struct StepResult {
  SupervisorState state;
  std::vector<Action> actions;
  std::string reason;  // why the job state changed; empty if it did not
};

// The beginning: asks for the first generation.
StepResult Begin(const SupervisorConfig& config, base::SteadyTime now);
StepResult Step(SupervisorState state, const Event& event, base::SteadyTime now);

}  // namespace belay::launcher
