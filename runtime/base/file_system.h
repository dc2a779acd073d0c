// Seam: files. Everything belay keeps goes through here, so that a test can lose, tear or refuse any of it.
//
// Blocking; call it on a thread that may block. Objects are for one thread at a time unless a method says otherwise;
// the FileSystem itself is thread-safe. Paths are absolute.
//
// What is durable when: bytes after File::Sync() returned well, a file's name after SyncDirectory() of its folder
// returned well, never earlier. After a failed Sync() the file's content is unknown for good: write it again under a
// new name.
//
// Errors: kNotFound, kAlreadyExists, kNoSpace, kReadOnly, kPermissionDenied, kIo, with the path in the message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/base/result.h"
#include "runtime/base/unique_fd.h"
#include "runtime/base/units.h"

namespace belay::base {

// How bulk transfers are cut up: so many blocks of so many bytes in flight at once.
struct BulkShape {
  std::uint64_t block_bytes = 4 * kMiB;
  unsigned queue_depth = 16;
  friend bool operator==(const BulkShape&, const BulkShape&) = default;
};
inline constexpr std::uint64_t kBulkBlockBytesMin = 256 * kKiB, kBulkBlockBytesMax = 16 * kMiB;
inline constexpr unsigned kBulkQueueDepthMax = 64;
inline constexpr std::uint64_t kBulkInFlightBytesMax = 256 * kMiB;
// Blocks are a power of two, and all of it within the bounds above.
bool IsUsable(const BulkShape& shape);

class File {
 public:
  virtual ~File() = default;  // closes; a caller that wrote must have called Sync() and Close() first to know

  // Writes all of `bytes` at `offset`. For a file opened with `bulk`, offset, size and address should be multiples of 4
  // KiB (all but the last piece); other pieces work but go slowly. The blocks of one call are in flight together, so
  // give pieces of 64 MiB and more. A file opened with kAppend writes at its end, whatever `offset` says.
  virtual Status WriteAt(std::uint64_t offset, std::span<const std::byte> bytes) = 0;
  // Reads until `bytes` is full or the file ends; returns the number of bytes read.
  virtual Result<std::size_t> ReadAt(std::uint64_t offset, std::span<std::byte> bytes) = 0;
  virtual Result<std::uint64_t> Size() = 0;
  virtual Status Truncate(std::uint64_t size) = 0;
  // Makes the file at least `size` long (the new part reads as zeros) and reserves its blocks, so that later writes
  // below `size` cannot meet a full disk. Where the file system cannot reserve, only the length changes. Bulk writes
  // into a preallocated range run side by side, where appending ones would wait for each other.
  virtual Status Preallocate(std::uint64_t size) = 0;
  virtual Status Sync() = 0;
  virtual Status Close() = 0;
  // The descriptor, to be passed to another process; -1 where there is none (in memory). Owned by the File.
  virtual int Descriptor() const = 0;
};

struct OpenOptions {
  // kNameless: in the folder of that path; nobody else sees it, and it is gone once it is closed, however that comes.
  enum class Mode : std::uint8_t { kRead, kCreateExclusive, kCreateOrTruncate, kAppend, kReadWrite, kNameless };
  Mode mode = Mode::kRead;
  bool bulk = false;  // large streams: direct I/O where the file system has it, many blocks in flight, no page cache
  std::uint32_t permissions = 0600;
  std::optional<BulkShape> shape = std::nullopt;  // of a bulk file; none: the device's
};

struct FileInfo {
  std::uint64_t size_bytes = 0;
  std::uint64_t inode = 0;
  std::uint64_t device = 0;  // the file system that the inode is of
  std::uint32_t owner_uid = 0;
  std::uint32_t permissions = 0;
  bool is_directory = false;
  bool is_link = false;  // a symbolic one; everything else here is told of what it leads to
  std::int64_t modified_unix_ns = 0;
};

struct SpaceInfo {
  std::uint64_t total_bytes = 0;
  std::uint64_t available_bytes = 0;  // to this user
  std::uint64_t file_system_id = 0;   // most keep theirs over a restart of the machine, unlike FileInfo::device
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  virtual Result<std::unique_ptr<File>> Open(const std::string& path, const OpenOptions& options) = 0;
  virtual Status Rename(const std::string& from, const std::string& to) = 0;       // replaces `to`
  virtual Status Link(const std::string& existing, const std::string& added) = 0;  // a symbolic one is not followed
  // A symbolic link to `target`, an absolute path that need not be there.
  virtual Status LinkSymbolic(const std::string& target, const std::string& added) = 0;
  virtual Result<std::optional<std::string>> ReadLink(const std::string& path) = 0;  // none: it is no symbolic link
  virtual Status Remove(const std::string& path) = 0;                                // a file
  virtual Status RemoveDirectory(const std::string& path) = 0;                       // an empty one
  virtual Status MakeDirectory(const std::string& path, std::uint32_t permissions) = 0;
  virtual Status SyncDirectory(const std::string& path) = 0;
  virtual Result<std::vector<std::string>> List(const std::string& path) = 0;  // names, sorted, without . and ..
  virtual Result<FileInfo> Stat(const std::string& path) = 0;
  virtual Result<SpaceInfo> Space(const std::string& path) = 0;
  // How bulk files of this device (FileInfo::device) move from the next Open on; it must be usable. Those that have no
  // devices take no notice.
  virtual void SetBulkShape(std::uint64_t /*device*/, const BulkShape& /*shape*/) {}
};

// The machine's files; lives as long as the process.
FileSystem& PosixFileSystem();

// A File around a descriptor that another process opened and passed to us; `name` is for messages. Not bulk, so several
// threads may read at once.
std::unique_ptr<File> FileFromDescriptor(UniqueFd descriptor, const std::string& name);

// Which way bulk transfers go in this folder on PosixFileSystem(): "io_uring", "direct" (threads with O_DIRECT, where
// io_uring is refused) or "buffered" (with write-behind, where O_DIRECT is refused or means nothing, as on tmpfs).
std::string_view BulkWriterName(const std::string& directory);

// An advisory lock on a file (flock(2)), held until destroyed or the process ends, however it ends.
class FileLock {
 public:
  // No value if somebody else holds it. Makes the file (mode 0600) and leaves it there.
  static Result<std::optional<FileLock>> TryAcquire(const std::string& path);
  // The lock that came with an inherited descriptor. kAlreadyExists: it is no lock on this file, or not the one that
  // holds it.
  static Result<FileLock> TakeUp(UniqueFd fd, const std::string& path);

  // Stays the lock's own. To be inherited by the program that takes this one's place.
  int Descriptor() const { return fd_.get(); }

 private:
  explicit FileLock(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

// --- built from the above ---

// Every missing folder of `path`; each new name is made durable.
Status MakeDirectories(FileSystem& files, const std::string& path, std::uint32_t permissions = 0700);
// The folder a path lies in: "/a" of "/a/b", "/" of "/a".
std::string ParentPath(const std::string& path);
// The whole file. kLimitExceeded if it is larger than `limit_bytes`.
Result<std::string> ReadWholeFile(FileSystem& files, const std::string& path, std::uint64_t limit_bytes);
// The commit recipe for a small file: temporary name beside it, write, sync, rename, sync the folder.
Status WriteFileDurably(FileSystem& files, const std::string& path, std::string_view content,
                        std::uint32_t permissions = 0600);
// Removes a folder and all in it; a missing one is fine.
Status RemoveTree(FileSystem& files, const std::string& path);
bool Exists(FileSystem& files, const std::string& path);

}  // namespace belay::base
