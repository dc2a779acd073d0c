// From what each rank's shards turned out to hold to the manifest of the whole checkpoint. Pure.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "checkpoint/commit/actions.h"
#include "checkpoint/format/manifest.h"
#include "runtime/base/result.h"

namespace belay::checkpoint::commit {

// Checks that every tensor is tiled exactly by the boxes of all shards, and that all agree on its dtype and shape.
// kIncomplete or kLayoutMismatch name the tensor. The digest is filled in by EncodeManifest.
base::Result<Manifest> AssembleManifest(const PublishManifest& order, const std::string& created);

// Does a shard's header, read from a rank's staging memory, say what it must: this job, step, generation, rank and
// world, and a data section that ends where the file ends with a digest for every chunk? kCorrupt says what is wrong.
base::Result<InspectedFile> InspectShard(const StartWrite& order, const SealedFile& file,
                                         std::span<const std::byte> header_bytes);

}  // namespace belay::checkpoint::commit
