// The deal: which rank writes which piece of which tensor, so that everything is written exactly once.
//
// Pure and deterministic: every rank computes the same deal from the same layouts, so a save needs no collective. A box
// that several ranks hold alike goes to the holder with the fewest bytes so far (largest boxes first, ties to the
// lowest rank); one larger than its fair share is cut along dimension 0 among its holders.
#pragma once

#include <vector>

#include "checkpoint/format/layout.h"

namespace belay::checkpoint {

// What one rank writes of one of its tensors. A rank has at most one piece of a tensor.
struct Piece {
  std::size_t part = 0;    // index into RankLayout::parts
  std::size_t tensor = 0;  // index into PartLayout::tensors
  Box box;                 // in global coordinates, inside the tensor's own box, full in all dimensions but the first
};

// One list per rank, in the order of `world`; pieces in the order of parts and tensors.
// kInvalidArgument if holders disagree on dtype or shape, or if boxes of different holders overlap without being equal.
base::Result<std::vector<std::vector<Piece>>> Deal(const std::vector<RankLayout>& world);

// Do these boxes tile the whole shape exactly? Linear-time volume test plus a sweep for overlaps. kIncomplete says what
// is missing or doubled.
base::Status CheckCoverage(const std::vector<std::int64_t>& global_shape, const std::vector<Box>& boxes);

}  // namespace belay::checkpoint
