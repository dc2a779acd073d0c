// What a program asked of its disk, in order: everything that changes files, and every batch of the index.
//
// RecordingFileSystem and RecordingIndex stand in front of others and write down what went well. A DiskModel
// (disk_model.h) replays the log and says what a crash between any two operations may leave.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "runtime/base/file_system.h"
#include "runtime/base/index.h"

namespace belay::crash {

struct DiskOperation {
  enum class Kind : std::uint8_t {
    kOpen,  // for writing; makes the file if it is missing, and empties it if `truncate`
    kWrite,
    kResize,
    kSync,
    kLink,
    kLinkSymbolic,
    kRename,
    kRemove,
    kRemoveDirectory,
    kMakeDirectory,
    kSyncDirectory,
    kIndex,
  };
  Kind kind = Kind::kOpen;
  std::string path;             // of kOpen and of everything that concerns names
  std::string to;               // of kRename and kLink; of kLinkSymbolic the link, and `path` is where it leads
  std::uint64_t handle = 0;     // of kOpen to kSync: which opened file
  std::uint64_t offset = 0;     // of kWrite; the new size of kResize
  bool truncate = false;        // of kOpen
  std::string bytes;            // of kWrite
  base::IndexBatch batch = {};  // of kIndex
};
// "rename /data/a.tmp to /data/a"
std::string Describe(const DiskOperation& operation);

// One thread.
class DiskLog {
 public:
  void Add(DiskOperation operation) { operations_.push_back(std::move(operation)); }
  std::uint64_t NextHandle() { return ++handles_; }
  const std::vector<DiskOperation>& operations() const { return operations_; }
  std::vector<DiskOperation>& operations() { return operations_; }

 private:
  std::vector<DiskOperation> operations_;
  std::uint64_t handles_ = 0;
};

class RecordingFileSystem final : public base::FileSystem {
 public:
  RecordingFileSystem(base::FileSystem& files, DiskLog& log) : files_(files), log_(log) {}

  base::Result<std::unique_ptr<base::File>> Open(const std::string& path, const base::OpenOptions& options) override;
  base::Status Rename(const std::string& from, const std::string& to) override;
  base::Status Link(const std::string& existing, const std::string& added) override;
  base::Status LinkSymbolic(const std::string& target, const std::string& added) override;
  base::Result<std::optional<std::string>> ReadLink(const std::string& path) override { return files_.ReadLink(path); }
  base::Status Remove(const std::string& path) override;
  base::Status RemoveDirectory(const std::string& path) override;
  base::Status MakeDirectory(const std::string& path, std::uint32_t permissions) override;
  base::Status SyncDirectory(const std::string& path) override;
  base::Result<std::vector<std::string>> List(const std::string& path) override { return files_.List(path); }
  base::Result<base::FileInfo> Stat(const std::string& path) override { return files_.Stat(path); }
  base::Result<base::SpaceInfo> Space(const std::string& path) override { return files_.Space(path); }

 private:
  class RecordingFile;
  base::Status Note(base::Status done, DiskOperation operation);
  base::FileSystem& files_;
  DiskLog& log_;
};

class RecordingIndex final : public base::Index {
 public:
  RecordingIndex(base::Index& index, DiskLog& log) : index_(index), log_(log) {}
  base::Status Write(const base::IndexBatch& batch) override;
  base::Result<std::optional<std::string>> Get(std::string_view key) override { return index_.Get(key); }
  base::Result<std::vector<std::pair<std::string, std::string>>> Scan(std::string_view prefix) override {
    return index_.Scan(prefix);
  }

 private:
  base::Index& index_;
  DiskLog& log_;
};

}  // namespace belay::crash
