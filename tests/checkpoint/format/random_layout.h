// Random worlds for the tests of deal, shard files and planner: tensors of every dtype, replicated, cut along any
// dimensions as a grid, or held by one rank, with empty ones and scalars among them.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "checkpoint/format/boxes.h"
#include "checkpoint/format/layout.h"
#include "runtime/base/rng.h"

namespace belay::checkpoint::test {

// The seeds of a random test: fixed ones, or the one in BELAY_TEST_SEED to repeat a failure.
inline std::vector<std::uint64_t> Seeds(std::uint64_t count) {
  if (const char* only = std::getenv("BELAY_TEST_SEED")) return {std::strtoull(only, nullptr, 0)};
  std::cout << "seeds 1 to " << count << "; repeat one with BELAY_TEST_SEED\n";
  std::vector<std::uint64_t> seeds;
  for (std::uint64_t seed = 1; seed <= count; ++seed) seeds.push_back(seed);
  return seeds;
}

inline std::int64_t Between(base::Rng& rng, std::int64_t low, std::int64_t high) {
  return low + static_cast<std::int64_t>(rng.Below(static_cast<std::uint64_t>(high - low + 1)));
}

inline Box RandomBox(base::Rng& rng, const std::vector<std::int64_t>& shape) {
  Box box;
  for (const std::int64_t length : shape) {
    const std::int64_t begin = Between(rng, 0, length);
    box.offsets.push_back(begin);
    box.lengths.push_back(Between(rng, 0, length - begin));
  }
  return box;
}

struct RandomWorld {
  std::vector<RankLayout> layouts;
};

inline RandomWorld MakeRandomWorld(base::Rng& rng) {
  RandomWorld world;
  const std::int64_t ranks = Between(rng, 1, 6);
  for (std::int64_t r = 0; r < ranks; ++r) {
    world.layouts.push_back({base::Rank(static_cast<std::int32_t>(r)), {{"model", {}}, {"optimizer", {}}}});
  }
  const std::int64_t tensors = Between(rng, 1, 12);
  for (std::int64_t t = 0; t < tensors; ++t) {
    TensorSpec spec;
    spec.name = "layer" + std::to_string(t) + (rng.Below(4) == 0 ? ".gewicht \"\xC3\xA4\" \\" : ".weight");
    spec.dtype = static_cast<DType>(rng.Below(17));
    for (std::int64_t d = Between(rng, 0, 4); d > 0; --d) {
      spec.global_shape.push_back(rng.Below(20) == 0 ? 0 : Between(rng, 1, 9));
    }
    const std::size_t part = rng.Below(2);
    const std::uint64_t kind = rng.Below(4);
    if (kind == 0 || spec.global_shape.empty()) {  // the same everywhere
      spec.box = WholeBox(spec.global_shape);
      for (RankLayout& layout : world.layouts) layout.parts[part].tensors.push_back(spec);
    } else if (kind == 1) {  // on one rank only
      spec.box = WholeBox(spec.global_shape);
      world.layouts[rng.Below(world.layouts.size())].parts[part].tensors.push_back(spec);
    } else {
      // A grid over some dimensions; cells are dealt out in turn, cells beyond the world stay with nobody unless there
      // are fewer cells than ranks, when several ranks hold the same cell.
      std::vector<Box> cells{WholeBox(spec.global_shape)};
      for (std::size_t d = 0; d < spec.global_shape.size(); ++d) {
        std::vector<Box> finer;
        for (const Box& cell : cells) {
          const std::int64_t at =
              cells.size() * 2 <= world.layouts.size() ? Between(rng, 0, cell.lengths[d]) : cell.lengths[d];
          Box first = cell, second = cell;
          first.lengths[d] = at;
          second.offsets[d] += at;
          second.lengths[d] -= at;
          finer.push_back(first);
          if (cells.size() * 2 <= world.layouts.size()) finer.push_back(second);
        }
        cells = std::move(finer);
      }
      for (std::size_t r = 0; r < world.layouts.size(); ++r) {
        spec.box = cells[r % cells.size()];
        world.layouts[r].parts[part].tensors.push_back(spec);
      }
    }
  }
  return world;
}

}  // namespace belay::checkpoint::test
