#include "launcher/rank/rank_environment.h"

#include <algorithm>
#include <charconv>

#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::Fail;
using base::Str;

base::Result<std::int32_t> Number(const std::map<std::string, std::string>& environment, const std::string& name) {
  const auto it = environment.find(name);
  if (it == environment.end()) {
    return Fail(Code::kLaunchFailed, name, " is not set: belay-rank is started by mpirun for `belay run`, not by hand");
  }
  std::int32_t value = 0;
  const std::string& text = it->second;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0) {
    return Fail(Code::kLaunchFailed, name, " is '", text, "', not a number");
  }
  return value;
}

}  // namespace

base::Result<RankPlacement> PlacementFromMpirun(const std::map<std::string, std::string>& environment) {
  RankPlacement placement;
  BELAY_ASSIGN(placement.rank, Number(environment, "OMPI_COMM_WORLD_RANK"));
  BELAY_ASSIGN(placement.local_rank, Number(environment, "OMPI_COMM_WORLD_LOCAL_RANK"));
  BELAY_ASSIGN(placement.world_size, Number(environment, "OMPI_COMM_WORLD_SIZE"));
  BELAY_ASSIGN(placement.local_world_size, Number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE"));
  if (placement.rank >= placement.world_size || placement.local_rank >= placement.local_world_size) {
    return Fail(Code::kLaunchFailed, "mpirun calls this rank ", placement.rank, " of ", placement.world_size);
  }
  return placement;
}

std::map<std::string, std::string> MakeRankEnvironment(std::map<std::string, std::string> inherited,
                                                       const std::map<std::string, std::string>& job,
                                                       const RankPlacement& placement, int cores) {
  for (const auto& [name, value] : job) inherited[name] = value;
  inherited.erase(kLauncherSocketVariable);
  inherited.erase(kScratchVariable);
  inherited["RANK"] = Str(placement.rank);
  inherited["LOCAL_RANK"] = Str(placement.local_rank);
  inherited["WORLD_SIZE"] = Str(placement.world_size);
  inherited["LOCAL_WORLD_SIZE"] = Str(placement.local_world_size);
  inherited["GROUP_RANK"] = Str(placement.node_rank);
  // Emplaced: what the user chose stays. Threads must not change between attempts, or sums would round otherwise.
  inherited.emplace("OMP_NUM_THREADS", Str(std::max(1, cores / std::max(1, placement.local_world_size))));
  // Output goes to a pipe; without this a killed Python program takes its last lines with it.
  inherited.emplace("PYTHONUNBUFFERED", "1");
  return inherited;
}

}  // namespace belay::launcher
