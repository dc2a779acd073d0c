// A FileSystem that fails on request, in front of any other. Thread-safe.
//
//   files.Add({.path_contains = "manifest", .operation = FileOperation::kSync, .skip = 1});   // the second sync fails
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "runtime/base/file_system.h"

namespace belay::base {

enum class FileOperation : std::uint8_t {
  kOpen,
  kWrite,
  kRead,
  kTruncate,
  kPreallocate,
  kSync,
  kClose,
  kRename,  // the rule's path is looked for in the old and the new name
  kLink,    // the same; of symbolic links too
  kRemove,
  kRemoveDirectory,
  kMakeDirectory,
  kSyncDirectory,
  kList,
  kStat,
  kSpace,
};

struct FileFault {
  enum class Kind : std::uint8_t {
    kFail,        // answers `code` and does nothing
    kShortWrite,  // writes the first half, then answers `code`
    kBitFlip,     // reads or writes with one bit wrong, and says nothing
    kSwallow,     // does nothing and says that it did; of what answers with a Status only
  };
  std::string path_contains;
  FileOperation operation = FileOperation::kWrite;
  Kind kind = Kind::kFail;
  Code code = Code::kIo;
  std::uint64_t skip = 0;   // passages that go well first
  std::uint64_t count = 1;  // how often it fires; 0: for ever
  std::uint64_t seed = 1;   // which bit
};

class FaultyFileSystem final : public FileSystem {
 public:
  explicit FaultyFileSystem(FileSystem& files);
  ~FaultyFileSystem() override;

  // Rules are asked in the order they were added; the first that fires counts. Returns the rule's number.
  std::size_t Add(FileFault fault);
  void Clear();
  std::uint64_t Fired(std::size_t rule) const;

  Result<std::unique_ptr<File>> Open(const std::string& path, const OpenOptions& options) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Link(const std::string& existing, const std::string& added) override;
  Status LinkSymbolic(const std::string& target, const std::string& added) override;
  Result<std::optional<std::string>> ReadLink(const std::string& path) override;
  Status Remove(const std::string& path) override;
  Status RemoveDirectory(const std::string& path) override;
  Status MakeDirectory(const std::string& path, std::uint32_t permissions) override;
  Status SyncDirectory(const std::string& path) override;
  Result<std::vector<std::string>> List(const std::string& path) override;
  Result<FileInfo> Stat(const std::string& path) override;
  Result<SpaceInfo> Space(const std::string& path) override;
  void SetBulkShape(std::uint64_t device, const BulkShape& shape) override { files_.SetBulkShape(device, shape); }

 private:
  class FaultyFile;
  struct Rules;
  FileSystem& files_;
  std::shared_ptr<Rules> rules_;
};

}  // namespace belay::base
