// One rank's loading side: reads the wanted boxes of a checkpoint into memory, checking every chunk's digest on the
// way.
//
// Any saved layout into any wanted layout: wanted boxes are intersected with saved ones (checkpoint/restore/planner.h),
// and only the chunks that hold wanted bytes are read. Memory and disk are read alike, from descriptors that belayd
// hands out. Errors name file, tensor and offset: kCorrupt (a digest), kIncomplete (a box nobody saved),
// kLayoutMismatch (name, dtype or shape differ), kNotFound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/client/client.h"
#include "checkpoint/format/shard_file.h"
#include "runtime/base/file_system.h"

namespace belay::checkpoint {

struct Target {
  std::string name;  // "<part>.<tensor>"
  DType dtype = DType::kF32;
  std::vector<std::int64_t> global_shape;
  Box box;
  std::byte* data = nullptr;  // host memory, row-major bytes of the box
};

struct RestoreStatistics {
  std::uint64_t bytes_read = 0;
  std::uint64_t bytes_wanted = 0;
  double seconds = 0;
};

class Restorer {
 public:
  // Opens the manifest and every shard's header. A file that is missing or damaged is found by Problems(), Verify() and
  // the loads that need it.
  static base::Result<std::unique_ptr<Restorer>> Open(Client& client, const CheckpointKey& key, bool from_memory);
  // The same from a folder of files, without a daemon (`belay ckpt verify`, export, tests).
  static base::Result<std::unique_ptr<Restorer>> OpenDirectory(base::FileSystem& files, const std::string& directory);
  virtual ~Restorer() = default;

  virtual const Manifest& manifest() const = 0;
  // Every tensor saved, with its global shape, by full name.
  struct SavedTensor {
    DType dtype = DType::kF32;
    std::vector<std::int64_t> global_shape;
  };
  virtual const std::map<std::string, SavedTensor>& tensors() const = 0;

  // What is known already to be wrong: files that cannot be opened or whose header does not fit the manifest. Loading
  // what they do not hold still works.
  virtual std::vector<base::Error> Problems() const = 0;

  // All or nothing as far as the caller may trust it: on an error the targets' bytes are undefined. Up to `threads`
  // readers.
  virtual base::Result<RestoreStatistics> Load(const std::vector<Target>& targets, int threads) = 0;
  // The records of `rank`; kNotFound if that rank saved none.
  virtual base::Result<Records> LoadRecords(base::Rank rank) = 0;
  // Reads every byte and checks every digest; one error per bad chunk or file, none if all is well. `before_read` is
  // told of so many bytes before they are read, on the reading threads: it may wait, to keep below a rate.
  using BeforeRead = std::function<void(std::uint64_t bytes)>;
  virtual std::vector<base::Error> Verify(int threads, const BeforeRead& before_read = {}) = 0;
};

}  // namespace belay::checkpoint
