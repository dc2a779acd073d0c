// Arithmetic on boxes: intersections, and the contiguous byte runs by which a piece of one box lies inside another.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/format/layout.h"

namespace belay::checkpoint {

// 1 for a scalar. The lengths must be valid (layout.h), so that the product fits.
std::uint64_t ElementCount(const std::vector<std::int64_t>& lengths);
// The same for unchecked lengths, in bytes: none if one is negative or the product is over kTensorBytesMax.
std::optional<std::uint64_t> CheckedBytes(const std::vector<std::int64_t>& lengths, std::uint64_t element_bytes);
inline std::uint64_t ElementCount(const Box& box) { return ElementCount(box.lengths); }
Box WholeBox(const std::vector<std::int64_t>& shape);
// None if they do not meet, or if either is empty. Ranks of the boxes must agree.
std::optional<Box> Intersect(const Box& a, const Box& b);
bool Contains(const Box& outer, const Box& inner);
// "[0:4, 8:16]", for messages.
std::string BoxText(const Box& box);
// Two boxes of the list that overlap, if there are any: a sweep along the dimension with the most distinct beginnings.
std::optional<std::pair<std::size_t, std::size_t>> FindOverlap(const std::vector<const Box*>& boxes);

// A contiguous stretch that lies at `source` in the row-major bytes of one box and at `destination` in those of
// another.
struct Run {
  std::uint64_t source = 0;
  std::uint64_t destination = 0;
  std::uint64_t bytes = 0;
  friend bool operator==(const Run&, const Run&) = default;
};
// The runs that carry the intersection of `source` and `destination`; adjacent runs are merged. Empty if they do not
// meet.
std::vector<Run> RunsBetween(const Box& source, const Box& destination, std::uint64_t element_bytes);

}  // namespace belay::checkpoint
