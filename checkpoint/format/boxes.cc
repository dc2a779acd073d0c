#include "checkpoint/format/boxes.h"

#include <algorithm>
#include <set>

#include "runtime/base/check.h"

namespace belay::checkpoint {

std::uint64_t ElementCount(const std::vector<std::int64_t>& lengths) {
  std::uint64_t count = 1;
  for (const std::int64_t length : lengths) count *= static_cast<std::uint64_t>(length);
  return count;
}

std::optional<std::uint64_t> CheckedBytes(const std::vector<std::int64_t>& lengths, std::uint64_t element_bytes) {
  bool empty = false;
  for (const std::int64_t length : lengths) {
    if (length < 0) return std::nullopt;
    if (length == 0) empty = true;
  }
  if (empty) return 0;
  unsigned __int128 bytes = element_bytes;
  for (const std::int64_t length : lengths) {
    bytes *= static_cast<std::uint64_t>(length);
    if (bytes > kTensorBytesMax) return std::nullopt;
  }
  return static_cast<std::uint64_t>(bytes);
}

Box WholeBox(const std::vector<std::int64_t>& shape) { return Box{std::vector<std::int64_t>(shape.size(), 0), shape}; }

std::optional<Box> Intersect(const Box& a, const Box& b) {
  BELAY_CHECK(a.offsets.size() == b.offsets.size(), a.offsets.size(), " and ", b.offsets.size(), " dimensions");
  Box both;
  both.offsets.reserve(a.offsets.size());
  both.lengths.reserve(a.offsets.size());
  for (std::size_t d = 0; d < a.offsets.size(); ++d) {
    const std::int64_t begin = std::max(a.offsets[d], b.offsets[d]);
    const std::int64_t end = std::min(a.offsets[d] + a.lengths[d], b.offsets[d] + b.lengths[d]);
    if (end <= begin) return std::nullopt;
    both.offsets.push_back(begin);
    both.lengths.push_back(end - begin);
  }
  return both;
}

bool Contains(const Box& outer, const Box& inner) {
  if (outer.offsets.size() != inner.offsets.size()) return false;
  for (std::size_t d = 0; d < outer.offsets.size(); ++d) {
    if (inner.offsets[d] < outer.offsets[d]) return false;
    if (inner.offsets[d] + inner.lengths[d] > outer.offsets[d] + outer.lengths[d]) return false;
  }
  return true;
}

std::string BoxText(const Box& box) {
  std::string text = "[";
  for (std::size_t d = 0; d < box.offsets.size(); ++d) {
    if (d > 0) text += ", ";
    text += std::to_string(box.offsets[d]) + ":" + std::to_string(box.offsets[d] + box.lengths[d]);
  }
  return text + "]";
}

std::optional<std::pair<std::size_t, std::size_t>> FindOverlap(const std::vector<const Box*>& boxes) {
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < boxes.size(); ++i) {
    if (ElementCount(*boxes[i]) > 0) order.push_back(i);
  }
  if (order.size() < 2) return std::nullopt;
  const std::size_t dimensions = boxes[order[0]]->offsets.size();
  if (dimensions == 0) return std::pair{order[0], order[1]};  // a scalar is held whole

  std::size_t axis = 0;
  std::size_t most = 0;
  for (std::size_t d = 0; d < dimensions; ++d) {
    std::set<std::int64_t> beginnings;
    for (const std::size_t i : order) beginnings.insert(boxes[i]->offsets[d]);
    if (beginnings.size() > most) {
      most = beginnings.size();
      axis = d;
    }
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return boxes[a]->offsets[axis] < boxes[b]->offsets[axis]; });
  std::vector<std::size_t> open;  // boxes the sweep line is in
  for (const std::size_t i : order) {
    const std::int64_t here = boxes[i]->offsets[axis];
    std::erase_if(open, [&](std::size_t o) { return boxes[o]->offsets[axis] + boxes[o]->lengths[axis] <= here; });
    for (const std::size_t o : open) {
      if (Intersect(*boxes[o], *boxes[i]).has_value()) return std::pair{o, i};
    }
    open.push_back(i);
  }
  return std::nullopt;
}

std::vector<Run> RunsBetween(const Box& source, const Box& destination, std::uint64_t element_bytes) {
  const std::optional<Box> both = Intersect(source, destination);
  if (!both) return {};
  const std::size_t dimensions = both->offsets.size();
  if (dimensions == 0) return {Run{0, 0, element_bytes}};

  // Byte strides of both boxes, and where the intersection begins in each.
  std::vector<std::uint64_t> source_stride(dimensions), destination_stride(dimensions);
  std::uint64_t source_size = element_bytes, destination_size = element_bytes;
  Run run;
  for (std::size_t d = dimensions; d-- > 0;) {
    source_stride[d] = source_size;
    destination_stride[d] = destination_size;
    run.source += static_cast<std::uint64_t>(both->offsets[d] - source.offsets[d]) * source_size;
    run.destination += static_cast<std::uint64_t>(both->offsets[d] - destination.offsets[d]) * destination_size;
    source_size *= static_cast<std::uint64_t>(source.lengths[d]);
    destination_size *= static_cast<std::uint64_t>(destination.lengths[d]);
  }
  // Dimensions [inner, end) are one contiguous stretch in both: everything right of `inner` is full in both boxes.
  std::size_t inner = dimensions - 1;
  while (inner > 0 && both->lengths[inner] == source.lengths[inner] &&
         both->lengths[inner] == destination.lengths[inner]) {
    --inner;
  }
  run.bytes = source_stride[inner] * static_cast<std::uint64_t>(both->lengths[inner]);

  std::vector<Run> runs;
  std::vector<std::int64_t> index(inner, 0);
  while (true) {
    if (!runs.empty() && runs.back().source + runs.back().bytes == run.source &&
        runs.back().destination + runs.back().bytes == run.destination) {
      runs.back().bytes += run.bytes;
    } else {
      runs.push_back(run);
    }
    std::size_t d = inner;
    while (d > 0) {
      --d;
      run.source += source_stride[d];
      run.destination += destination_stride[d];
      if (++index[d] < both->lengths[d]) break;
      run.source -= source_stride[d] * static_cast<std::uint64_t>(both->lengths[d]);
      run.destination -= destination_stride[d] * static_cast<std::uint64_t>(both->lengths[d]);
      index[d] = 0;
      if (d == 0) return runs;
    }
    if (inner == 0) return runs;
  }
}

}  // namespace belay::checkpoint
