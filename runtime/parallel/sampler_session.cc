// Apart from sampler.cc, which needs neither torch nor MPI.
#include "belay/sampler.h"
#include "belay/session.h"

namespace belay {

PermutationSampler::PermutationSampler(Session& session, std::int64_t dataset_size, std::int64_t batch_per_rank,
                                       std::uint64_t seed)
    : PermutationSampler(dataset_size, batch_per_rank, seed, session.rank(), session.world_size()) {}

}  // namespace belay
