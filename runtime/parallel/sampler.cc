#include "belay/sampler.h"

#include <algorithm>
#include <bit>
#include <sstream>

#include "belay/error.h"
#include "runtime/base/exit_status.h"
#include "runtime/base/rng.h"
#include "runtime/base/str.h"

namespace belay {
namespace {

constexpr std::string_view kFormat = "permutation-sampler-1";

[[noreturn]] void Misuse(const std::string& what) { throw Error(static_cast<int>(base::ExitStatus::kSoftware), what); }

}  // namespace

// A Feistel network on the smallest even number of bits that holds the data set, walked until it lands inside (at most
// four steps on average, since that range is less than four times as large). A bijection for any round function.
std::int64_t PermutationSampler::permute(std::uint64_t seed, std::int64_t epoch, std::int64_t position,
                                         std::int64_t dataset_size) {
  const auto size = static_cast<std::uint64_t>(dataset_size);
  const int half_bits = std::max(1, (static_cast<int>(std::bit_width(size - 1)) + 1) / 2);
  const std::uint64_t half_mask = (std::uint64_t{1} << half_bits) - 1;
  const std::uint64_t key = base::Mix64(base::Mix64(seed + 0x9E3779B97F4A7C15ULL) ^ static_cast<std::uint64_t>(epoch));
  constexpr std::uint64_t kRounds = 6;
  auto value = static_cast<std::uint64_t>(position);
  do {
    std::uint64_t left = value >> half_bits;
    std::uint64_t right = value & half_mask;
    for (std::uint64_t round = 0; round < kRounds; ++round) {
      const std::uint64_t mixed = base::Mix64(key + 0x9E3779B97F4A7C15ULL * (round + 1) + base::Mix64(right + round));
      left ^= mixed & half_mask;
      std::swap(left, right);
    }
    value = left << half_bits | right;
  } while (value >= size);
  return static_cast<std::int64_t>(value);
}

PermutationSampler::PermutationSampler(std::int64_t dataset_size, std::int64_t batch_per_rank, std::uint64_t seed,
                                       int rank, int world_size)
    : dataset_size_(dataset_size), batch_per_rank_(batch_per_rank), seed_(seed), rank_(rank), world_size_(world_size) {
  if (dataset_size < 1) Misuse("a sampler needs a data set of at least one sample");
  if (batch_per_rank < 1) Misuse("a sampler needs a batch of at least one sample");
  if (rank < 0 || rank >= world_size) Misuse(base::Str("rank ", rank, " is not in a world of ", world_size));
}

std::vector<std::int64_t> PermutationSampler::next() {
  std::vector<std::int64_t> batch;
  batch.reserve(batch_per_rank_);
  for (std::int64_t i = 0; i < batch_per_rank_; ++i) {
    const std::int64_t position = drawn_ + i * world_size_ + rank_;
    batch.push_back(permute(seed_, position / dataset_size_, position % dataset_size_, dataset_size_));
  }
  drawn_ += batch_per_rank_ * world_size_;
  return batch;
}

std::int64_t PermutationSampler::epoch() const { return drawn_ / dataset_size_; }

std::string PermutationSampler::save() const { return base::Str(kFormat, " ", dataset_size_, " ", seed_, " ", drawn_); }

void PermutationSampler::load(const std::string& state) {
  std::istringstream in(state);
  std::string format;
  std::string rest;
  std::int64_t dataset_size = 0;
  std::uint64_t seed = 0;
  std::int64_t drawn = -1;
  in >> format >> dataset_size >> seed >> drawn;
  if (!in || format != kFormat || drawn < 0 || in >> rest) Misuse("this is not the state of a permutation sampler");
  if (dataset_size != dataset_size_ || seed != seed_) {
    Misuse(base::Str("the saved sampler belongs to a data set of ", dataset_size, " samples and seed ", seed,
                     ", this one to ", dataset_size_, " and ", seed_,
                     ": resume with the same data and seed, or start a new job"));
  }
  drawn_ = drawn;
}

}  // namespace belay
