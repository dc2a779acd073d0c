# The training runtime.
#   belay_training (belay::training): everything without torch headers - MPI, session state, sampler.
#   belay_runtime (belay::runtime): what includes torch, behind one precompiled header, since <torch/torch.h> costs 20 s a file.
belay_library(training
  SOURCES
    comm/mpi_control.cc
    comm/mpi_library.cc
    comm/reduction.cc
    comm/stop_vote.cc
    comm/transfers.cc
    parallel/sampler.cc
    session/device_choice.cc
    session/memory_node.cc
    session/run_environment.cc
    session/session_state.cc
    session/stop_signals.cc
    session/uncaught.cc
  LINK belay::base MPI::MPI_C
  PRIVATE_LINK belay::torch)
target_include_directories(belay_training PUBLIC $<BUILD_INTERFACE:${CMAKE_CURRENT_SOURCE_DIR}/include>)
# The inner loops of gradient sums: at -O2 g++ 12 hardly vectorizes.
set_source_files_properties(comm/reduction.cc PROPERTIES COMPILE_OPTIONS -O3)

belay_library(runtime
  SOURCES
    checkpointer/backward_hook.cc
    checkpointer/checkpointer.cc
    checkpointer/resume.cc
    checkpointer/saver.cc
    comm/mpi_backend.cc
    comm/mpi_backend_moves.cc
    comm/mpi_worker.cc
    comm/nccl.cc
    comm/process_groups.cc
    parallel/data_parallel.cc
    parallel/sampler_session.cc
    metrics/metrics.cc
    session/session.cc
    state/capture.cc
    state/generators.cc
    state/optimizers.cc
    state/restore.cc
    state/state_set.cc
    state/tensors.cc
    state/thrown.cc
  LINK belay::training belay::base belay::client belay::cuda belay::metrics_files belay::save_worker belay::torch MPI::MPI_C
  PRIVATE_LINK nlohmann_json::nlohmann_json)
target_precompile_headers(belay_runtime PRIVATE <torch/torch.h>)
