// Which samples a step trains on: a permutation of the data set for every epoch, computed, never stored.
//
// Sample i of epoch e is Permute(seed, e, i), a counter-based bijection, so the whole state is one number, the count of
// samples drawn by all ranks together, whatever the world size. Each step draws world_size x per_rank consecutive
// positions; rank r takes those with position mod world_size == r. The remainder of an epoch that does not fill a step
// runs on into the next epoch: no sample is skipped or repeated within an epoch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace belay {

class Session;

class PermutationSampler {
 public:
  PermutationSampler(std::int64_t dataset_size, std::int64_t batch_per_rank, std::uint64_t seed, int rank,
                     int world_size);
  PermutationSampler(Session& session, std::int64_t dataset_size, std::int64_t batch_per_rank, std::uint64_t seed);

  // The data set indices of this rank's next batch.
  std::vector<std::int64_t> next();
  // Epoch of the next sample.
  std::int64_t epoch() const;
  std::int64_t samples_drawn() const { return drawn_; }  // by all ranks together

  // State: drawn samples, with data set size and seed to refuse another data set's.
  std::string save() const;
  void load(const std::string& state);  // throws belay::Error on a state that is not this sampler's

  // Data set index of `position` in `epoch`: a bijection on [0, dataset_size).
  static std::int64_t permute(std::uint64_t seed, std::int64_t epoch, std::int64_t position, std::int64_t dataset_size);

 private:
  std::int64_t dataset_size_, batch_per_rank_;
  std::uint64_t seed_;
  int rank_, world_size_;
  std::int64_t drawn_ = 0;
};

}  // namespace belay
