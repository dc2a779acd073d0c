// Distinct integer types, so that a rank cannot be passed where a step is wanted.
//
// No arithmetic and no implicit conversion: take .value() where a number is meant.
#pragma once

#include <compare>
#include <cstdint>
#include <functional>
#include <ostream>

namespace belay::base {

template <typename Tag, typename Int>
class StrongId {
 public:
  using ValueType = Int;
  constexpr StrongId() = default;
  explicit constexpr StrongId(Int value) : value_(value) {}
  constexpr Int value() const { return value_; }
  friend constexpr auto operator<=>(StrongId, StrongId) = default;
  friend std::ostream& operator<<(std::ostream& out, StrongId id) { return out << id.value_; }

 private:
  Int value_ = 0;
};

using Rank = StrongId<struct RankTag, std::int32_t>;               // index in the world; may change between generations
using LocalRank = StrongId<struct LocalRankTag, std::int32_t>;     // index on the node
using NodeRank = StrongId<struct NodeRankTag, std::int32_t>;       // index of the node
using Step = StrongId<struct StepTag, std::int64_t>;               // finished optimizer updates
using Generation = StrongId<struct GenerationTag, std::uint64_t>;  // raised by every run of a job; 0 means none

}  // namespace belay::base

template <typename Tag, typename Int>
struct std::hash<belay::base::StrongId<Tag, Int>> {
  std::size_t operator()(belay::base::StrongId<Tag, Int> id) const noexcept { return std::hash<Int>{}(id.value()); }
};
