#include "runtime/session/session_state.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "runtime/base/clock.h"
#include "runtime/base/environment.h"
#include "runtime/base/exit_status.h"
#include "runtime/base/log.h"
#include "runtime/base/shared_memory.h"
#include "runtime/comm/mpi_control.h"
#include "runtime/comm/mpi_library.h"
#include "runtime/comm/stop_vote.h"
#include "runtime/session/run_environment.h"
#include "runtime/session/stop_signals.h"

namespace belay::detail {

SessionState::SessionState() = default;
SessionState::~SessionState() { runtime::ReleaseStopSignals(); }

base::Status SessionState::Start(int* argc, char*** argv) {
  AttachControlPage();
  EnterPhase(base::Phase::kInit);
  runtime::CatchStopSignals();
  BELAY_ASSIGN(environment, runtime::ReadRunEnvironment(base::WholeEnvironment()));
  BELAY_TRY(runtime::StartMpi(argc, argv));
  BELAY_ASSIGN(control_, runtime::MpiControl::Make(MPI_COMM_WORLD));
  BELAY_ASSIGN(vote_, runtime::StopVote::Make(control_->communicator()));
  return FindPlace();
}

base::Status SessionState::FindPlace() {
  BELAY_ASSIGN(const runtime::ClaimedPlace claimed, runtime::ReadClaimedPlace(base::WholeEnvironment()));
  place.rank = control_->rank();
  place.world_size = control_->size();
  BELAY_TRY(runtime::CheckPlace(claimed, place.rank, place.world_size));

  MPI_Comm node = MPI_COMM_NULL;
  const int error = MPI_Comm_split_type(control_->communicator(), MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
  if (error != MPI_SUCCESS) {
    return base::Fail(base::Code::kCommunication, "MPI_Comm_split_type failed: ", runtime::MpiErrorText(error));
  }
  MPI_Comm_rank(node, &place.local_rank);
  MPI_Comm_size(node, &place.local_world_size);
  // Nodes are numbered by their first rank.
  int leader = place.rank;
  MPI_Bcast(&leader, 1, MPI_INT, 0, node);
  MPI_Comm_free(&node);
  std::vector<int> leaders(place.world_size);
  MPI_Allgather(&leader, 1, MPI_INT, leaders.data(), 1, MPI_INT, control_->communicator());
  std::sort(leaders.begin(), leaders.end());
  leaders.erase(std::unique(leaders.begin(), leaders.end()), leaders.end());
  place.node_rank = static_cast<int>(std::lower_bound(leaders.begin(), leaders.end(), leader) - leaders.begin());

  // The launcher knows better which GPU is whose, should it count otherwise.
  place.local_rank = claimed.local_rank.value_or(place.local_rank);
  place.local_world_size = claimed.local_world_size.value_or(place.local_world_size);
  place.node_rank = claimed.node_rank.value_or(place.node_rank);
  return {};
}

void SessionState::AttachControlPage() {
  const auto text = base::GetEnvironment("BELAY_CONTROL_FD");
  if (!text || text->empty()) return;
  int fd = -1;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), fd);
  const bool whole = error == std::errc() && end == text->data() + text->size();
  auto mapped = whole ? base::SharedControlPage::Map(fd)
                      : base::Result<base::SharedControlPage>(
                            base::Fail(base::Code::kInvalidArgument, "BELAY_CONTROL_FD is \"", *text, "\""));
  if (!mapped) {
    // A wrapper script may have closed it: training works without, only belay is blind and stops by SIGTERM.
    base::LogWarning("no_control_page", {{"reason", mapped.error().Text()}});
    return;
  }
  shared_page_ = std::make_unique<base::SharedControlPage>(std::move(*mapped));
  page_ = &shared_page_->page();
  page_->attached_pid.store(static_cast<std::uint32_t>(base::ProcessId()));
}

base::Status SessionState::Broadcast(std::string* bytes, int root) { return control_->Broadcast(bytes, root); }
base::Result<std::vector<std::string>> SessionState::AllGather(std::string_view bytes) {
  return control_->AllGather(bytes);
}
base::Result<std::int64_t> SessionState::AllReduceMin(std::int64_t value) {
  return control_->AllReduce(value, runtime::MpiControl::Extreme::kMin);
}
base::Result<std::int64_t> SessionState::AllReduceMax(std::int64_t value) {
  return control_->AllReduce(value, runtime::MpiControl::Extreme::kMax);
}
base::Status SessionState::Barrier() { return control_->Barrier(); }

bool SessionState::StopAskedHere() const {
  return runtime::StopSignalSeen() || (page_ != nullptr && page_->stop_requested.load() != 0);
}

base::Result<bool> SessionState::VoteStep() {
  if (place.world_size == 1) return StopAskedHere();
  BELAY_ASSIGN(const bool agreed, vote_->Read());
  if (agreed) return true;
  BELAY_TRY(vote_->Start(StopAskedHere()));
  return false;
}

void SessionState::Heartbeat() { page_->heartbeat_ns.store(base::SystemClock().Now().time_since_epoch().count()); }

void SessionState::EnterPhase(base::Phase phase) {
  if (page_ == nullptr) return;
  page_->phase.store(static_cast<std::uint32_t>(phase));
  Heartbeat();
}

void SessionState::StepsFinished(std::int64_t steps) {
  if (page_ == nullptr) return;
  page_->step.store(steps);
  EnterPhase(base::Phase::kStep);
}

void SessionState::Committed(std::int64_t step) {
  if (page_ != nullptr) page_->committed_step.store(step);
}

void SessionState::Resumed(std::int64_t step) {
  if (page_ != nullptr) page_->resumed_step.store(step);
}

void SessionState::ResumedFrom(base::Generation generation, std::uint32_t trust_steps) {
  if (page_ == nullptr) return;
  page_->trust_steps.store(trust_steps);
  page_->resumed_generation.store(generation.value());
}

void SessionState::Diverged() {
  if (page_ != nullptr) page_->diverged.store(1);
}

int SessionState::AddFinishCallback(FinishCallback callback) {
  callbacks_.push_back({next_handle_, std::move(callback)});
  return next_handle_++;
}

void SessionState::RemoveFinishCallback(int handle) {
  std::erase_if(callbacks_, [handle](const Callback& callback) { return callback.handle == handle; });
}

base::Result<int> SessionState::Finish() {
  if (finished_) return exit_status_;
  BELAY_TRY(vote_->Read());  // the last step's; all ranks have it
  if (!callbacks_.empty()) EnterPhase(base::Phase::kSave);
  bool saved = false;
  bool failed = false;
  for (const Callback& callback : callbacks_) {
    const SaveOutcome outcome = callback.run();
    saved |= outcome == SaveOutcome::kSaved;
    failed |= outcome == SaveOutcome::kFailed;
  }
  // Also the wait for the slowest rank: who comes back from it knows that all have saved.
  BELAY_ASSIGN(const std::int64_t good, AllReduceMin(saved && !failed ? 1 : 0));
  finished_ = true;
  base::ExitStatus status = base::ExitStatus::kDone;
  std::uint32_t outcome = 1;
  if (stopped_) {
    status = good != 0 ? base::kExitPreempted : base::ExitStatus::kGraceExpired;
    outcome = good != 0 ? 2 : 3;
  }
  if (page_ != nullptr) page_->outcome.store(outcome);
  EnterPhase(base::Phase::kDone);
  exit_status_ = static_cast<int>(status);
  return exit_status_;
}

void SessionState::SettleVote(base::Duration patience) {
  if (auto read = vote_->Read(base::SystemClock().Now() + patience); !read) {
    base::LogWarning("vote_not_settled", {{"rank", place.rank}, {"reason", read.error().Text()}});
  }
}

void SessionState::LeaveMpi() {
  vote_.reset();
  control_.reset();
  runtime::FinishMpi();
}

}  // namespace belay::detail
