// Sums and means over all ranks of a run.
#pragma once

#include <vector>

#include <belay/session.h>

namespace examples {

// The sum over the ranks of a tensor; every rank calls it with the same shape and dtype.
inline torch::Tensor SumOverRanks(belay::Session& session, const torch::Tensor& value) {
  std::vector<torch::Tensor> sum = {value.detach().clone()};
  if (session.world_size() > 1) session.process_group()->allreduce(sum)->wait();
  return sum.front();
}

inline double MeanOverRanks(belay::Session& session, const torch::Tensor& value) {
  return SumOverRanks(session, value.to(torch::kDouble)).item<double>() / session.world_size();
}

}  // namespace examples
