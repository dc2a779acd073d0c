// What can still be made out in a shard's header or a manifest that does not decode. Pure; takes any bytes.
//
// Nothing found here is to be trusted by itself: a digest that matches the data proves both. The strict decoders
// (checkpoint/format) stay the only ones that a load listens to.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "checkpoint/format/manifest.h"
#include "checkpoint/format/shard_file.h"

namespace belay::checkpoint::cli {

struct SalvagedHeader {
  std::uint64_t header_bytes = 0;    // where the data seems to begin; 0: cannot be told
  std::vector<ShardEntry> entries;   // those that make sense alone, by data offset; their places where those are known
  std::vector<ChunkDigest> digests;  // none if the list is damaged
  std::optional<ShardIdentity> identity;
};
// From the first bytes of a file. `header_bytes_known`: from a manifest; 0 if there is none.
SalvagedHeader SalvageShardHeader(std::span<const std::byte> file_start, std::uint64_t header_bytes_known);

// A manifest whose digest does not match, because a value changed or somebody reformatted it, read all the same.
std::optional<Manifest> SalvageManifest(std::string_view text);
// The entries of its list of files that make sense alone, also where the text is no JSON any more. Sorted by name.
std::vector<ManifestFile> SalvageManifestFiles(std::string_view text);

}  // namespace belay::checkpoint::cli
