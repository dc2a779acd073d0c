// The daemon's disk and index in the simulation: the twins in memory behind a gate where faults are asked for.
//
// Also watches: a Disk remembers which checkpoints' folders were touched since somebody looked, and tells when a
// manifest gets its name. Liar plants a fault that no daemon can survive, to prove that the checkers see it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "runtime/base/index.h"
#include "runtime/base/sim/mem_file_system.h"
#include "runtime/base/sim/memory_index.h"
#include "tests/sim/faults.h"

namespace belay::checkpoint::sim {

enum class Lie : std::uint8_t {
  kNone,
  kSync,        // a file's sync does nothing and says it went well
  kFolderSync,  // the same for folders
  kBytes,       // now and then a write stores one wrong bit
};

class Disk final : public base::FileSystem {
 public:
  Disk(base::MemFileSystem& files, Faults& faults, Lie lie) : files_(files), faults_(faults), lie_(lie) {}

  base::Result<std::unique_ptr<base::File>> Open(const std::string& path, const base::OpenOptions& options) override;
  base::Status Rename(const std::string& from, const std::string& to) override;
  base::Status Link(const std::string& existing, const std::string& added) override;
  base::Status LinkSymbolic(const std::string& target, const std::string& added) override;
  base::Result<std::optional<std::string>> ReadLink(const std::string& path) override;
  base::Status Remove(const std::string& path) override;
  base::Status RemoveDirectory(const std::string& path) override;
  base::Status MakeDirectory(const std::string& path, std::uint32_t permissions) override;
  base::Status SyncDirectory(const std::string& path) override;
  base::Result<std::vector<std::string>> List(const std::string& path) override;
  base::Result<base::FileInfo> Stat(const std::string& path) override;
  base::Result<base::SpaceInfo> Space(const std::string& path) override;

  // Folders in which something has changed since the last call.
  std::set<std::string> TakeTouched() { return std::exchange(touched_, {}); }
  void OnManifest(std::function<void(const std::string& directory)> named) { named_ = std::move(named); }

 private:
  class GatedFile;
  template <typename Result, typename Act>
  Result Through(Call call, const std::string& path, const Act& act);
  void Touch(const std::string& path);

  base::MemFileSystem& files_;
  Faults& faults_;
  const Lie lie_;
  std::set<std::string> touched_;
  std::function<void(const std::string&)> named_;
};

// The daemon's handle on an index that outlives it.
class GatedIndex final : public base::Index {
 public:
  GatedIndex(base::MemoryIndex& index, Faults& faults) : index_(index), faults_(faults) {}
  base::Status Write(const base::IndexBatch& batch) override;
  base::Result<std::optional<std::string>> Get(std::string_view key) override;
  base::Result<std::vector<std::pair<std::string, std::string>>> Scan(std::string_view prefix) override;

 private:
  base::MemoryIndex& index_;
  Faults& faults_;
};

}  // namespace belay::checkpoint::sim
