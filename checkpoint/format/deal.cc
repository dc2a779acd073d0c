#include "checkpoint/format/deal.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <span>
#include <string_view>
#include <unordered_map>

#include "checkpoint/format/boxes.h"

namespace belay::checkpoint {

using base::Code;
using base::Fail;

namespace {

struct Holder {
  std::size_t rank = 0;  // index into the world
  std::size_t part = 0;
  std::size_t tensor = 0;
};

// One distinct box of one tensor, and who holds it (in world order).
struct Item {
  const TensorSpec* spec = nullptr;
  std::string_view part;
  std::uint64_t bytes = 0;
  std::vector<Holder> holders;
};

struct TensorKey {
  std::string_view part, name;
  friend bool operator==(const TensorKey&, const TensorKey&) = default;
};
struct TensorKeyHash {
  std::size_t operator()(const TensorKey& key) const {
    const std::hash<std::string_view> hash;
    return hash(key.name) * 31 + hash(key.part);
  }
};

bool BoxLess(const Box& a, const Box& b) { return std::tie(a.offsets, a.lengths) < std::tie(b.offsets, b.lengths); }

// Everything held, grouped by tensor and box; tensors in the order of their first appearance. Empty boxes of tensors
// that have elements are nobody's work; of a tensor without elements every holder is asked about the same nothing.
base::Result<std::vector<Item>> Group(const std::vector<RankLayout>& world) {
  struct Held {
    const TensorSpec* spec;
    Holder holder;
  };
  std::unordered_map<TensorKey, std::size_t, TensorKeyHash> numbers;
  std::vector<std::pair<TensorKey, std::vector<Held>>> tensors;
  for (std::size_t r = 0; r < world.size(); ++r) {
    for (std::size_t p = 0; p < world[r].parts.size(); ++p) {
      const PartLayout& part = world[r].parts[p];
      for (std::size_t t = 0; t < part.tensors.size(); ++t) {
        const TensorSpec& spec = part.tensors[t];
        const TensorKey key{part.part, spec.name};
        const auto [at, is_new] = numbers.try_emplace(key, tensors.size());
        if (is_new) tensors.emplace_back(key, std::vector<Held>{});
        std::vector<Held>& held = tensors[at->second].second;
        if (!held.empty()) {
          const TensorSpec& first = *held.front().spec;
          if (first.dtype != spec.dtype || first.global_shape != spec.global_shape) {
            return Fail(Code::kInvalidArgument, part.part, ".", spec.name, ": ranks ",
                        world[held.front().holder.rank].rank, " and ", world[r].rank,
                        " disagree on its dtype or global shape");
          }
        }
        held.push_back(Held{&spec, Holder{r, p, t}});
      }
    }
  }

  std::vector<Item> items;
  for (auto& [key, held] : tensors) {
    const std::uint64_t element_bytes = DTypeBytes(held.front().spec->dtype);
    const bool has_elements = ElementCount(held.front().spec->global_shape) > 0;
    if (has_elements) std::erase_if(held, [](const Held& h) { return ElementCount(h.spec->box) == 0; });
    std::stable_sort(held.begin(), held.end(),
                     [](const Held& a, const Held& b) { return BoxLess(a.spec->box, b.spec->box); });
    const std::size_t first_item = items.size();
    for (const Held& h : held) {
      if (items.size() == first_item || items.back().spec->box != h.spec->box) {
        items.push_back(Item{h.spec, key.part, ElementCount(h.spec->box) * element_bytes, {}});
      }
      items.back().holders.push_back(h.holder);
    }
    std::vector<const Box*> boxes;
    for (std::size_t i = first_item; i < items.size(); ++i) boxes.push_back(&items[i].spec->box);
    if (const auto overlap = FindOverlap(boxes)) {
      const Item &a = items[first_item + overlap->first], &b = items[first_item + overlap->second];
      return Fail(Code::kInvalidArgument, key.part, ".", key.name, ": rank ", world[a.holders[0].rank].rank, " holds ",
                  BoxText(a.spec->box), " and rank ", world[b.holders[0].rank].rank, " holds ", BoxText(b.spec->box),
                  ", which overlap without being equal");
    }
  }
  return items;
}

// Gives `bytes` to the holders so that the fullest of those that get any is as empty as possible: fills them like
// vessels that stand in the same water. One share a holder.
std::vector<std::uint64_t> Pour(std::uint64_t bytes, std::span<const std::uint64_t> loads) {
  std::vector<std::size_t> order(loads.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return loads[a] < loads[b]; });
  // The water stands in the first `wet` vessels, at (what they hold + bytes) / wet.
  unsigned __int128 sum = bytes;
  std::size_t wet = 0;
  while (wet < order.size() && (wet == 0 || static_cast<unsigned __int128>(loads[order[wet]]) * wet < sum)) {
    sum += loads[order[wet]];
    ++wet;
  }
  const auto level = static_cast<std::uint64_t>(sum / wet);
  std::vector<std::uint64_t> shares(loads.size(), 0);
  std::uint64_t left = bytes;
  for (std::size_t i = 0; i < wet; ++i) {
    const std::uint64_t load = loads[order[i]];
    shares[order[i]] = std::min(left, level > load ? level - load : 0);
    left -= shares[order[i]];
  }
  shares[order[0]] += left;  // what the division dropped
  return shares;
}

}  // namespace

base::Result<std::vector<std::vector<Piece>>> Deal(const std::vector<RankLayout>& world) {
  for (const RankLayout& layout : world) {
    if (auto valid = ValidateLayout(layout); !valid) return base::Wrap(std::move(valid).error(), "rank ", layout.rank);
  }
  BELAY_ASSIGN(std::vector<Item> items, Group(world));

  std::vector<std::vector<Piece>> deal(world.size());
  std::vector<std::uint64_t> loads(world.size(), 0);
  std::vector<const Item*> shared;
  std::uint64_t total = 0;
  for (const Item& item : items) {
    total += item.bytes;
    if (item.holders.size() > 1) {
      shared.push_back(&item);
      continue;
    }
    const Holder& only = item.holders.front();
    deal[only.rank].push_back(Piece{only.part, only.tensor, item.spec->box});
    loads[only.rank] += item.bytes;
  }
  std::sort(shared.begin(), shared.end(), [](const Item* a, const Item* b) {
    if (a->bytes != b->bytes) return a->bytes > b->bytes;
    if (a->part != b->part) return a->part < b->part;
    if (a->spec->name != b->spec->name) return a->spec->name < b->spec->name;
    return BoxLess(a->spec->box, b->spec->box);
  });

  const std::uint64_t fair_share = world.empty() ? 0 : (total + world.size() - 1) / world.size();
  for (const Item* item : shared) {
    const Box& box = item->spec->box;
    const bool cut = item->bytes > fair_share && !box.lengths.empty() && box.lengths[0] > 1;
    if (!cut) {
      const auto least =
          std::min_element(item->holders.begin(), item->holders.end(), [&](const Holder& a, const Holder& b) {
            return std::pair(loads[a.rank], world[a.rank].rank) < std::pair(loads[b.rank], world[b.rank].rank);
          });
      deal[least->rank].push_back(Piece{least->part, least->tensor, box});
      loads[least->rank] += item->bytes;
      continue;
    }
    std::vector<std::uint64_t> holder_loads;
    for (const Holder& holder : item->holders) holder_loads.push_back(loads[holder.rank]);
    const std::vector<std::uint64_t> shares = Pour(item->bytes, holder_loads);
    const auto rows = static_cast<std::uint64_t>(box.lengths[0]);
    const std::uint64_t row_bytes = item->bytes / rows;
    unsigned __int128 given = 0;
    std::uint64_t row = 0;
    for (std::size_t h = 0; h < item->holders.size(); ++h) {
      given += shares[h];
      // Rounded to whole rows; the last boundary is exactly `rows`, since the shares add up to the item's bytes.
      const auto end = static_cast<std::uint64_t>((given * rows + item->bytes / 2) / item->bytes);
      if (end == row) continue;
      const Holder& holder = item->holders[h];
      Piece piece{holder.part, holder.tensor, box};
      piece.box.offsets[0] += static_cast<std::int64_t>(row);
      piece.box.lengths[0] = static_cast<std::int64_t>(end - row);
      deal[holder.rank].push_back(std::move(piece));
      loads[holder.rank] += (end - row) * row_bytes;
      row = end;
    }
  }
  for (std::vector<Piece>& pieces : deal) {
    std::sort(pieces.begin(), pieces.end(),
              [](const Piece& a, const Piece& b) { return std::tie(a.part, a.tensor) < std::tie(b.part, b.tensor); });
  }
  return deal;
}

base::Status CheckCoverage(const std::vector<std::int64_t>& global_shape, const std::vector<Box>& boxes) {
  const std::optional<std::uint64_t> wanted = CheckedBytes(global_shape, 1);
  if (!wanted) return Fail(Code::kIncomplete, "the global shape is not a shape");
  std::uint64_t volume = 0;
  std::vector<const Box*> pointers;
  pointers.reserve(boxes.size());
  for (const Box& box : boxes) {
    if (auto inside = ValidateExtent(DType::kU8, global_shape, box); !inside) {
      return Fail(Code::kIncomplete, inside.error().message);
    }
    volume += ElementCount(box);
    if (volume > *wanted) break;  // something is doubled; the sweep says what
    pointers.push_back(&box);
  }
  if (pointers.size() < boxes.size()) pointers.push_back(&boxes[pointers.size()]);
  if (const auto overlap = FindOverlap(pointers)) {
    return Fail(Code::kIncomplete, "the boxes ", BoxText(boxes[overlap->first]), " and ",
                BoxText(boxes[overlap->second]), " overlap");
  }
  if (volume != *wanted) {
    return Fail(Code::kIncomplete, "only ", volume, " of ", *wanted, " elements are there, in ", boxes.size(),
                " pieces");
  }
  return {};
}

}  // namespace belay::checkpoint
