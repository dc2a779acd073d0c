#include "runtime/session/run_environment.h"

#include <charconv>

namespace belay::runtime {
namespace {

std::string Text(const Variables& variables, const std::string& name) {
  const auto found = variables.find(name);
  return found == variables.end() ? std::string() : found->second;
}

template <typename Int>
base::Status ReadInt(const Variables& variables, const std::string& name, Int* value) {
  const std::string text = Text(variables, name);
  if (text.empty()) return {};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  if (error != std::errc() || end != text.data() + text.size() || *value < Int{0}) {
    return base::Fail(base::Code::kInvalidArgument, "environment variable ", name, " is \"", text,
                      "\", not a number: the launcher sets it, so unset it or start with belay run");
  }
  return {};
}

base::Status ReadFirst(const Variables& variables, std::initializer_list<const char*> names, std::optional<int>* value,
                       std::string* used = nullptr) {
  for (const char* name : names) {
    if (Text(variables, name).empty()) continue;
    int number = 0;
    BELAY_TRY(ReadInt(variables, name, &number));
    *value = number;
    if (used != nullptr) *used = name;
    return {};
  }
  return {};
}

}  // namespace

base::Result<detail::RunEnvironment> ReadRunEnvironment(const Variables& variables) {
  detail::RunEnvironment run;
  run.project = Text(variables, "BELAY_PROJECT");
  run.job = Text(variables, "BELAY_JOB");
  run.socket = Text(variables, "BELAY_SOCKET");
  run.run_directory = Text(variables, "BELAY_RUN_DIR");
  BELAY_TRY(ReadInt(variables, "BELAY_GENERATION", &run.generation));
  BELAY_TRY(ReadInt(variables, "BELAY_GRACE_SECONDS", &run.grace_seconds));
  return run;
}

base::Result<ClaimedPlace> ReadClaimedPlace(const Variables& variables) {
  ClaimedPlace place;
  BELAY_TRY(ReadFirst(variables, {"RANK", "OMPI_COMM_WORLD_RANK"}, &place.rank, &place.rank_name));
  BELAY_TRY(ReadFirst(variables, {"WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"}, &place.world_size));
  BELAY_TRY(ReadFirst(variables, {"LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"}, &place.local_rank));
  BELAY_TRY(ReadFirst(variables, {"LOCAL_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_SIZE"}, &place.local_world_size));
  BELAY_TRY(ReadFirst(variables, {"GROUP_RANK"}, &place.node_rank));
  return place;
}

base::Status CheckPlace(const ClaimedPlace& claimed, int mpi_rank, int mpi_size) {
  const int rank = claimed.rank.value_or(mpi_rank);
  const int size = claimed.world_size.value_or(mpi_size);
  if (rank == mpi_rank && size == mpi_size) return {};
  return base::Fail(base::Code::kInvalidArgument, "the environment says rank ", rank, " of ", size, " (",
                    claimed.rank_name.empty() ? "WORLD_SIZE" : claimed.rank_name, "), but MPI says rank ", mpi_rank,
                    " of ", mpi_size, ": start the program with belay run or mpirun, or unset RANK and WORLD_SIZE");
}

}  // namespace belay::runtime
