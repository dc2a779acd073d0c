// A small program on Session whose ends the tests look at:  session_probe MODE
//   ok            one all-reduce, then finish()
//   error         rank 1 (or the only one) throws belay::Error(65); the others wait for it in a collective
//   throw         the same with a std::runtime_error
//   caught        rank 1 catches its own exception outside the session and returns 9
//   killed        rank 1 kills itself with SIGKILL; the others wait for it in a collective
//   timeout       rank 1 never joins a collective that the others give 0.5 s, then waits to be ended
//   stop saved|unsaved   steps until all ranks agree to stop; the last rank is told by a signal at step 3
//   unfinished [vote|lone-vote]   leaves main without finish(), and with a vote on stopping under way on all ranks, or
//                 on rank 1 alone
//   exit          std::exit(session.finish())
#include <torch/torch.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "belay/session.h"
#include "runtime/session/session_state.h"

namespace {

void AllReduce(belay::Session& session, int timeout_ms = -1) {
  std::vector<torch::Tensor> tensors = {torch::ones({1000})};
  c10d::AllreduceOptions options;
  if (timeout_ms > 0) options.timeout = std::chrono::milliseconds(timeout_ms);
  session.process_group()->allreduce(tensors, options)->wait();
  if (tensors[0][0].item<int>() != session.world_size()) std::abort();
}

int Run(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "ok";
  belay::Session session(argc, argv);
  const bool odd_one = session.rank() == (session.world_size() > 1 ? 1 : 0);
  AllReduce(session);
  if (mode == "error" && odd_one) throw belay::Error(65, "the data of this rank are bad");
  if (mode == "throw" && odd_one) throw std::runtime_error("something else");
  if (mode == "caught" && odd_one) throw 9;
  if (mode == "killed" && odd_one) std::raise(SIGKILL);
  if (mode == "timeout" && odd_one) {
    while (true) pause();
  }
  if (mode == "stop") {
    auto& state = session.state();
    const bool saved = argc > 2 && std::string(argv[2]) == "saved";
    state.AddFinishCallback([saved, odd_one] {
      // One rank that could not save is enough.
      return saved || !odd_one ? belay::detail::SaveOutcome::kSaved : belay::detail::SaveOutcome::kFailed;
    });
    if (!state.VoteStep()) return 1;
    for (int step = 0;; ++step) {
      if (step == 3 && session.rank() == session.world_size() - 1) std::raise(SIGTERM);
      AllReduce(session);
      const auto stop = state.VoteStep();
      if (!stop) return 1;
      if (*stop) {
        std::printf("rank %d stopped after step %d\n", session.rank(), step);
        state.RecordStop();
        break;
      }
    }
  } else if (mode != "ok" && mode != "unfinished" && mode != "exit") {
    AllReduce(session, mode == "timeout" ? 500 : -1);
  }
  if (mode == "unfinished") {
    const std::string votes = argc > 2 ? argv[2] : "";
    if (votes == "vote" || (votes == "lone-vote" && odd_one)) {
      if (!session.state().VoteStep()) return 1;
    }
    return 0;
  }
  std::printf("rank %d of %d local %d of %d device %s\n", session.rank(), session.world_size(), session.local_rank(),
              session.local_world_size(), session.device().str().c_str());
  if (mode == "exit") std::exit(session.finish());
  return session.finish();
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return Run(argc, argv);
  } catch (int status) {
    return status;
  }
}
