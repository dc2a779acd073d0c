#include <string>

#include "checkpoint/format/boxes.h"
#include "checkpoint/format/shard_file.h"
#include "tests/fuzz/fuzz_target.h"

namespace {

// What is accepted tiles its data, lies inside its tensors, and (if it is ours) comes back from its own encoding.
void Check(std::string_view file) {
  using namespace belay::checkpoint;
  const auto header = DecodeShardHeader(belay::fuzz::Bytes(file));
  if (!header) return;
  FUZZ_CHECK(header->plan.header_bytes <= file.size());
  std::uint64_t end = 0;
  for (const ShardEntry& entry : header->plan.entries) {
    FUZZ_CHECK(entry.data_offset == end);
    end += entry.bytes;
    FUZZ_CHECK(ValidateExtent(entry.dtype, entry.global_shape, entry.box).has_value());
    FUZZ_CHECK(entry.bytes == ElementCount(entry.box) * DTypeBytes(entry.dtype));
  }
  FUZZ_CHECK(end == header->plan.data_bytes);
  if (header->identity.job.empty()) return;
  FUZZ_CHECK(header->digests.size() == ChunkCount(header->plan.data_bytes));
  ShardPlan plan = header->plan;
  plan.header_bytes = belay::base::AlignUp(plan.header_bytes * 8 + 65536, 4096);  // our spelling may be the longer one
  const auto encoded = EncodeShardHeader(plan, header->identity, header->digests);
  FUZZ_CHECK(encoded.has_value());
  const auto again = DecodeShardHeader(belay::fuzz::Bytes(*encoded));
  FUZZ_CHECK(again.has_value());
  FUZZ_CHECK(again->plan.entries.size() == plan.entries.size());
  for (std::size_t i = 0; i < plan.entries.size(); ++i) {
    FUZZ_CHECK(again->plan.entries[i].name == plan.entries[i].name);
    FUZZ_CHECK(again->plan.entries[i].dtype == plan.entries[i].dtype);
    FUZZ_CHECK(again->plan.entries[i].box == plan.entries[i].box);
  }
}

}  // namespace

BELAY_FUZZ_TARGET(data) {
  Check(data);
  // A mutation that changes the size would only ever be cut off: mend the length.
  if (data.size() < 8) return;
  std::string file(data);
  const std::size_t length = data.size() - 8;
  for (unsigned i = 0; i < 8; ++i) file[i] = static_cast<char>(length >> (8 * i) & 255);
  Check(file);
}
