#include "runtime/base/posix/posix_file_system.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstring>
#include <map>
#include <mutex>

#include "runtime/base/check.h"
#include "runtime/base/posix/posix_file.h"

namespace belay::base {

namespace {

int FlagsOf(OpenOptions::Mode mode) {
  switch (mode) {
    case OpenOptions::Mode::kRead:
      return O_RDONLY;
    case OpenOptions::Mode::kCreateExclusive:
      return O_RDWR | O_CREAT | O_EXCL;
    case OpenOptions::Mode::kCreateOrTruncate:
      return O_RDWR | O_CREAT | O_TRUNC;
    case OpenOptions::Mode::kAppend:
      return O_RDWR | O_CREAT | O_APPEND;
    case OpenOptions::Mode::kReadWrite:
      return O_RDWR;
    case OpenOptions::Mode::kNameless:
      return O_RDWR | O_TMPFILE;
  }
  return O_RDONLY;
}

Result<UniqueFd> OpenFd(const std::string& path, int flags, mode_t permissions = 0) {
  while (true) {
    UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, permissions));
    if (fd.valid()) return fd;
    if (errno != EINTR) return FailErrno(errno, "cannot open " + path);
  }
}

// Where the file system has no files without a name, one that loses it at once.
Result<UniqueFd> OpenNameless(const std::string& folder, mode_t permissions) {
  if (auto fd = OpenFd(folder, FlagsOf(OpenOptions::Mode::kNameless), permissions)) return fd;
  static std::atomic<unsigned> made{0};
  const std::string path = Str(folder, "/.belay-nameless-", ::getpid(), "-", ++made);
  BELAY_ASSIGN(UniqueFd fd, OpenFd(path, FlagsOf(OpenOptions::Mode::kCreateExclusive), permissions));
  if (::unlink(path.c_str()) != 0) return FailErrno(errno, "cannot take the name from " + path);
  return fd;
}

Status Checked(int result, std::string_view verb, const std::string& path) {
  if (result == 0) return {};
  return FailErrno(errno, Str("cannot ", verb, ' ', path));
}

class RealFileSystem final : public FileSystem {
 public:
  explicit RealFileSystem(BulkMethod best) : best_(best) {}

  Result<std::unique_ptr<File>> Open(const std::string& path, const OpenOptions& options) override {
    const bool nameless = options.mode == OpenOptions::Mode::kNameless;
    BELAY_ASSIGN(UniqueFd fd, nameless ? OpenNameless(path, options.permissions)
                                       : OpenFd(path, FlagsOf(options.mode), options.permissions));
    const int number = fd.get();
    auto file = std::make_unique<PosixFile>(path, std::move(fd));
    if (options.bulk && options.mode != OpenOptions::Mode::kAppend) {
      file->UseBulk(best_, options.mode != OpenOptions::Mode::kRead, options.shape.value_or(ShapeFor(number)));
    }
    return file;
  }

  Status Rename(const std::string& from, const std::string& to) override {
    return Checked(::rename(from.c_str(), to.c_str()), "rename to " + to + " from", from);
  }
  Status Link(const std::string& existing, const std::string& added) override {
    return Checked(::link(existing.c_str(), added.c_str()), "link to " + added, existing);
  }
  Status LinkSymbolic(const std::string& target, const std::string& added) override {
    return Checked(::symlink(target.c_str(), added.c_str()), "link to " + target, added);
  }
  Result<std::optional<std::string>> ReadLink(const std::string& path) override {
    std::string target(PATH_MAX, '\0');
    const ssize_t size = ::readlink(path.c_str(), target.data(), target.size());
    if (size < 0 && errno == EINVAL) return std::optional<std::string>();
    if (size < 0) return FailErrno(errno, "cannot read the link " + path);
    target.resize(static_cast<std::size_t>(size));
    return std::optional(std::move(target));
  }
  Status Remove(const std::string& path) override { return Checked(::unlink(path.c_str()), "remove", path); }
  Status RemoveDirectory(const std::string& path) override {
    return Checked(::rmdir(path.c_str()), "remove folder", path);
  }
  Status MakeDirectory(const std::string& path, std::uint32_t permissions) override {
    return Checked(::mkdir(path.c_str(), permissions), "make folder", path);
  }

  Status SyncDirectory(const std::string& path) override {
    BELAY_ASSIGN(const UniqueFd fd, OpenFd(path, O_RDONLY | O_DIRECTORY));
    while (::fsync(fd.get()) != 0) {
      if (errno == EINTR) continue;
      // Some network file systems cannot sync a folder and make names durable by themselves.
      if (errno == EINVAL) return {};
      return FailErrno(errno, "cannot sync folder " + path);
    }
    return {};
  }

  Result<std::vector<std::string>> List(const std::string& path) override {
    DIR* folder = ::opendir(path.c_str());
    if (folder == nullptr) return FailErrno(errno, "cannot list " + path);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(folder)) {
      const std::string_view name(entry->d_name);
      if (name != "." && name != "..") names.emplace_back(name);
      errno = 0;
    }
    const int failed = errno;
    ::closedir(folder);
    if (failed != 0) return FailErrno(failed, "cannot list " + path);
    std::ranges::sort(names);
    return names;
  }

  Result<FileInfo> Stat(const std::string& path) override {
    struct stat info {};
    if (::lstat(path.c_str(), &info) != 0) return FailErrno(errno, "cannot stat " + path);
    const bool is_link = S_ISLNK(info.st_mode);
    if (is_link && ::stat(path.c_str(), &info) != 0) return FailErrno(errno, "cannot stat " + path);
    return FileInfo{.size_bytes = static_cast<std::uint64_t>(info.st_size),
                    .inode = info.st_ino,
                    .device = info.st_dev,
                    .owner_uid = info.st_uid,
                    .permissions = info.st_mode & 07777U,
                    .is_directory = S_ISDIR(info.st_mode),
                    .is_link = is_link,
                    .modified_unix_ns = info.st_mtim.tv_sec * 1'000'000'000LL + info.st_mtim.tv_nsec};
  }

  Result<SpaceInfo> Space(const std::string& path) override {
    struct statvfs info {};
    if (::statvfs(path.c_str(), &info) != 0) return FailErrno(errno, "cannot ask for the free space of " + path);
    return SpaceInfo{.total_bytes = info.f_blocks * info.f_frsize,
                     .available_bytes = info.f_bavail * info.f_frsize,
                     .file_system_id = info.f_fsid};
  }

  void SetBulkShape(std::uint64_t device, const BulkShape& shape) override {
    BELAY_CHECK(IsUsable(shape), "blocks of ", shape.block_bytes, " bytes, ", shape.queue_depth, " in flight");
    const std::scoped_lock lock(mutex_);
    shapes_[device] = shape;
  }

 private:
  BulkShape ShapeFor(int fd) {
    struct stat info {};
    if (::fstat(fd, &info) != 0) return {};
    const std::scoped_lock lock(mutex_);
    const auto found = shapes_.find(info.st_dev);
    return found == shapes_.end() ? BulkShape() : found->second;
  }

  const BulkMethod best_;
  std::mutex mutex_;
  std::map<std::uint64_t, BulkShape> shapes_;  // by device; guarded by mutex_
};

}  // namespace

std::unique_ptr<FileSystem> MakePosixFileSystem(BulkMethod best) { return std::make_unique<RealFileSystem>(best); }

FileSystem& PosixFileSystem() {
  static RealFileSystem files(BulkMethod::kIoUring);
  return files;
}

std::string_view BulkWriterName(const std::string& directory) {
  auto fd = OpenNameless(directory, 0600);
  if (!fd) return BulkMethodName(BulkMethod::kBuffered);
  PosixFile file(directory, *std::move(fd));
  file.UseBulk(BulkMethod::kIoUring, true, BulkShape());
  return BulkMethodName(file.method());
}

Result<std::optional<FileLock>> FileLock::TryAcquire(const std::string& path) {
  BELAY_ASSIGN(UniqueFd fd, OpenFd(path, O_RDWR | O_CREAT, 0600));
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return std::optional<FileLock>();
    if (errno != EINTR) return FailErrno(errno, "cannot lock " + path);
  }
  return std::optional<FileLock>(FileLock(std::move(fd)));
}

Result<FileLock> FileLock::TakeUp(UniqueFd fd, const std::string& path) {
  struct stat held {};
  struct stat named {};
  if (::fstat(fd.get(), &held) != 0) return FailErrno(errno, "the lock handed over for " + path);
  if (::stat(path.c_str(), &named) != 0) return FailErrno(errno, "cannot stat " + path);
  if (held.st_dev != named.st_dev || held.st_ino != named.st_ino) {
    return Fail(Code::kAlreadyExists, "the lock handed over is not on ", path);
  }
  // Of the same open file it changes nothing; of another it fails where that one is held.
  while (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return Fail(Code::kAlreadyExists, "another process holds ", path);
    if (errno != EINTR) return FailErrno(errno, "cannot lock " + path);
  }
  return FileLock(std::move(fd));
}

}  // namespace belay::base
