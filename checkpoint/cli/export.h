// Exports: a checkpoint as plain safetensors, the way Hugging Face lays a model out, readable without belay.
//
//   DIR/model.safetensors                                    or, when larger than the limit for one file,
//   DIR/model-00001-of-00003.safetensors ...  model.safetensors.index.json
//
// Every tensor whole, every byte checked against its digest on the way. Bounded memory: tensors go through in slices.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/client/restorer.h"
#include "runtime/base/file_system.h"

namespace belay::checkpoint::cli {

struct ExportOptions {
  std::string part = "model";
  bool strip_prefix = false;                     // "model.blocks.0.weight" becomes "blocks.0.weight"
  std::uint64_t file_bytes_max = 5'000'000'000;  // as Hugging Face's libraries default; one tensor may be larger
  int threads = 4;
};

struct ExportReport {
  std::vector<std::string> files;  // in `directory`
  std::uint64_t tensors = 0;
  std::uint64_t bytes = 0;
  std::vector<std::string> stored_as_u8;  // FP8 tensors, which stock readers do not know: the name says what they are
};

// Writes the folder under a temporary name beside it, syncs and renames it: `directory` is there whole or not at all.
// kAlreadyExists; kNotFound if the part has no tensors; what reading and writing answer.
base::Result<ExportReport> Export(Restorer& restorer, base::FileSystem& files, const std::string& directory,
                                  const std::string& fresh_suffix, const ExportOptions& options);

}  // namespace belay::checkpoint::cli
