// A shard file: what one rank writes of one part, as one safetensors file. The layout is FORMAT.md's.
//
// The header's length is fixed by the plan (digests have a fixed width), so the data's place is known before any byte
// of it is: staging memory holds the file's exact image, and the header is written last into the room kept for it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/format/deal.h"
#include "checkpoint/format/digest.h"
#include "checkpoint/format/layout.h"

namespace belay::checkpoint {

inline constexpr std::uint64_t kShardHeaderBytesMax = 100'000'000;  // the safetensors limit on the JSON

// What the reference implementation has no name for is stored as something it can read, and named in "belay.dtypes".
struct Stored {
  std::string_view dtype;
  std::int64_t more = 0;  // an extra last dimension of this length; 0 for none
};
Stored StoredAs(DType dtype);

struct ShardEntry {
  std::string name;  // "<part>.<tensor>"
  DType dtype = DType::kF32;
  std::vector<std::int64_t> global_shape;
  Box box;                        // of the global tensor
  std::uint64_t data_offset = 0;  // from the start of the data section; entries tile it without holes
  std::uint64_t bytes = 0;
};

// One planned file. Entries in data order: descending element size, then name, as the reference writer does.
struct ShardPlan {
  std::string file_name;  // "rank-00003.model.safetensors", of frozen tensors "rank-00003.model-frozen.safetensors"
  std::vector<ShardEntry> entries;
  std::uint64_t header_bytes = 0;  // multiple of 4096, the 8-byte length included: where the data section begins
  std::uint64_t data_bytes = 0;
  bool frozen = false;  // see PartLayout
  std::uint64_t FileBytes() const { return header_bytes + data_bytes; }
};

// What goes into the header beside the tensors.
struct ShardIdentity {
  std::string project, job;
  base::Step step;
  base::Generation generation;
  base::Rank rank;
  std::int32_t world_size = 1;
};

// The files one rank writes, in part order; parts of which it writes nothing give no file.
base::Result<std::vector<ShardPlan>> PlanShards(const RankLayout& layout, const std::vector<Piece>& pieces);

// Exactly plan.header_bytes bytes. `digests` are the chunk digests of the data section.
base::Result<std::string> EncodeShardHeader(const ShardPlan& plan, const ShardIdentity& identity,
                                            const std::vector<ChunkDigest>& digests);

struct ShardHeader {
  ShardPlan plan;  // file_name left empty
  ShardIdentity identity;
  std::vector<ChunkDigest> digests;
};
// From the first bytes of a file, at least its header; untrusted input. kCorrupt, kFormatVersion or kLimitExceeded.
// A plain safetensors file without our entries is read too: identity empty, boxes whole, no digests.
base::Result<ShardHeader> DecodeShardHeader(std::span<const std::byte> file_start);
// How many bytes DecodeShardHeader needs, from the first 8.
base::Result<std::uint64_t> ShardHeaderBytes(std::span<const std::byte> first_eight);

}  // namespace belay::checkpoint
