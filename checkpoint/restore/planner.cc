#include "checkpoint/restore/planner.h"

#include <algorithm>
#include <string_view>
#include <unordered_map>

namespace belay::checkpoint {

using base::Code;
using base::Fail;

namespace {

struct SavedBox {
  std::size_t file = 0;
  const ShardEntry* entry = nullptr;
};

struct FileRun {
  std::size_t file = 0;
  TargetRun run;
};

std::string ShapeText(DType dtype, const std::vector<std::int64_t>& shape) {
  std::string text(DTypeName(dtype));
  text += " [";
  for (std::size_t d = 0; d < shape.size(); ++d) text += (d > 0 ? ", " : "") + std::to_string(shape[d]);
  return text + "]";
}

// The saved boxes that meet the wanted one, after making sure that together they are exactly all of it.
base::Result<std::vector<SavedBox>> Cover(const WantedBox& wanted, const std::vector<SavedBox>& saved) {
  std::vector<SavedBox> parts;
  std::vector<Box> boxes;
  std::uint64_t found = 0;
  for (const SavedBox& box : saved) {
    const ShardEntry& entry = *box.entry;
    if (entry.dtype != wanted.dtype || entry.global_shape != wanted.global_shape) {
      return Fail(Code::kLayoutMismatch, "tensor ", wanted.name, " is saved as ",
                  ShapeText(entry.dtype, entry.global_shape), " but wanted as ",
                  ShapeText(wanted.dtype, wanted.global_shape));
    }
    if (auto both = Intersect(entry.box, wanted.box)) {
      found += ElementCount(*both);
      boxes.push_back(std::move(*both));
      parts.push_back(box);
    }
  }
  std::vector<const Box*> pointers;
  for (const Box& box : boxes) pointers.push_back(&box);
  if (const auto overlap = FindOverlap(pointers)) {
    return Fail(Code::kIncomplete, "tensor ", wanted.name, ": ", BoxText(boxes[overlap->first]), " and ",
                BoxText(boxes[overlap->second]), " were both saved, and overlap");
  }
  if (found != ElementCount(wanted.box)) {
    return Fail(Code::kIncomplete, "tensor ", wanted.name, ": only ", found, " of the ", ElementCount(wanted.box),
                " elements of ", BoxText(wanted.box), " were saved");
  }
  return parts;
}

}  // namespace

base::Result<std::vector<PlannedRead>> PlanReads(const std::vector<const ShardPlan*>& saved,
                                                 const std::vector<WantedBox>& wanted, std::uint64_t read_bytes_max) {
  std::unordered_map<std::string_view, std::vector<SavedBox>> by_name;
  for (std::size_t f = 0; f < saved.size(); ++f) {
    for (const ShardEntry& entry : saved[f]->entries) by_name[entry.name].push_back(SavedBox{f, &entry});
  }

  std::vector<FileRun> runs;
  for (std::size_t t = 0; t < wanted.size(); ++t) {
    const WantedBox& want = wanted[t];
    if (auto inside = ValidateExtent(want.dtype, want.global_shape, want.box); !inside) {
      return base::Wrap(std::move(inside).error(), "tensor ", want.name);
    }
    const auto at = by_name.find(want.name);
    if (at == by_name.end()) return Fail(Code::kLayoutMismatch, "tensor ", want.name, " was not saved");
    BELAY_ASSIGN(const std::vector<SavedBox> parts, Cover(want, at->second));
    for (const SavedBox& part : parts) {
      for (Run run : RunsBetween(part.entry->box, want.box, DTypeBytes(want.dtype))) {
        run.source += part.entry->data_offset;
        while (run.bytes > 0) {  // cut at the borders of chunks
          const std::uint64_t bytes = std::min(run.bytes, kChunkBytes - run.source % kChunkBytes);
          runs.push_back(FileRun{part.file, TargetRun{t, Run{run.source, run.destination, bytes}}});
          run.source += bytes;
          run.destination += bytes;
          run.bytes -= bytes;
        }
      }
    }
  }
  std::sort(runs.begin(), runs.end(), [](const FileRun& a, const FileRun& b) {
    return std::tie(a.file, a.run.run.source, a.run.target) < std::tie(b.file, b.run.run.source, b.run.target);
  });

  std::vector<PlannedRead> reads;
  for (const FileRun& run : runs) {
    const ShardPlan& file = *saved[run.file];
    const std::uint64_t begin = run.run.run.source / kChunkBytes * kChunkBytes;
    const std::uint64_t end = std::min(begin + kChunkBytes, file.data_bytes);
    PlannedRead* last = reads.empty() || reads.back().file != run.file ? nullptr : &reads.back();
    const bool inside = last != nullptr && begin < last->data_end;
    const bool joins = last != nullptr && begin == last->data_end && end - last->data_begin <= read_bytes_max;
    if (!inside && !joins) {
      last = &reads.emplace_back(PlannedRead{run.file, file.header_bytes + begin, begin, end, {}});
    }
    last->data_end = std::max(last->data_end, end);
    last->runs.push_back(run.run);
  }
  return reads;
}

}  // namespace belay::checkpoint
