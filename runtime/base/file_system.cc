#include "runtime/base/file_system.h"

#include <bit>

#include "runtime/base/fault_points.h"

namespace belay::base {

bool IsUsable(const BulkShape& shape) {
  return std::has_single_bit(shape.block_bytes) && shape.block_bytes >= kBulkBlockBytesMin &&
         shape.block_bytes <= kBulkBlockBytesMax && shape.queue_depth >= 1 && shape.queue_depth <= kBulkQueueDepthMax &&
         shape.block_bytes * shape.queue_depth <= kBulkInFlightBytesMax;
}

std::string ParentPath(const std::string& path) {
  const std::size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Status MakeDirectories(FileSystem& files, const std::string& path, std::uint32_t permissions) {
  std::string whole = path;
  while (whole.size() > 1 && whole.back() == '/') whole.pop_back();
  if (auto info = files.Stat(whole); info.has_value()) {
    if (info->is_directory) return {};
    return Fail(Code::kAlreadyExists, whole, " exists and is not a folder");
  } else if (info.error().code != Code::kNotFound || whole == "/") {
    return Wrap(info.error(), "cannot make folder ", whole);
  }
  const std::string parent = ParentPath(whole);
  BELAY_TRY(MakeDirectories(files, parent, permissions));
  const Status made = files.MakeDirectory(whole, permissions);
  // Somebody else was faster; whether their name is durable we cannot know, so we make it so.
  if (!made && made.error().code != Code::kAlreadyExists) return made;
  Status synced = files.SyncDirectory(parent);
  // The next caller would take a folder that is there for one that stays there.
  if (!synced && made) IgnoreError(files.RemoveDirectory(whole), "somebody may have put something there");
  return synced;
}

Result<std::string> ReadWholeFile(FileSystem& files, const std::string& path, std::uint64_t limit_bytes) {
  BELAY_ASSIGN(auto file, files.Open(path, {}));
  BELAY_ASSIGN(const std::uint64_t size, file->Size());
  std::string content;
  // One byte more than the size, to see the end; files in /proc say size 0 and are read on.
  std::uint64_t wanted = size + 1;
  while (true) {
    if (content.size() > limit_bytes || size > limit_bytes) {
      return Fail(Code::kLimitExceeded, path, " is larger than ", limit_bytes, " bytes");
    }
    const std::size_t old_size = content.size();
    content.resize(old_size + wanted);
    BELAY_ASSIGN(const std::size_t got,
                 file->ReadAt(old_size, std::as_writable_bytes(std::span(content).subspan(old_size))));
    content.resize(old_size + got);
    if (got < wanted) break;
    wanted = 64 * 1024;
  }
  if (content.size() > limit_bytes) {
    return Fail(Code::kLimitExceeded, path, " is larger than ", limit_bytes, " bytes");
  }
  return content;
}

Status WriteFileDurably(FileSystem& files, const std::string& path, std::string_view content,
                        std::uint32_t permissions) {
  const std::string temporary = path + ".tmp";
  const Status written = [&]() -> Status {
    OpenOptions options;
    options.mode = OpenOptions::Mode::kCreateOrTruncate;
    options.permissions = permissions;
    BELAY_ASSIGN(auto file, files.Open(temporary, options));
    BELAY_TRY(file->WriteAt(0, std::as_bytes(std::span(content))));
    BELAY_TRY(FaultPoint("file.durable.after_write"));
    BELAY_TRY(file->Sync());
    BELAY_TRY(file->Close());
    BELAY_TRY(FaultPoint("file.durable.after_sync"));
    return files.Rename(temporary, path);
  }();
  if (!written) {
    IgnoreError(files.Remove(temporary), "the first error is the one to tell; a leftover is overwritten next time");
    return written;
  }
  BELAY_TRY(FaultPoint("file.durable.after_rename"));
  return files.SyncDirectory(ParentPath(path));
}

Status RemoveTree(FileSystem& files, const std::string& path) {
  // Remove first: it takes symbolic links away without following them, and fails on folders.
  Status removed = files.Remove(path);
  if (removed || removed.error().code == Code::kNotFound) return {};
  auto names = files.List(path);
  if (!names) return removed;
  for (const std::string& name : *names) BELAY_TRY(RemoveTree(files, path + "/" + name));
  Status gone = files.RemoveDirectory(path);
  if (!gone && gone.error().code == Code::kNotFound) return {};
  return gone;
}

bool Exists(FileSystem& files, const std::string& path) { return files.Stat(path).has_value(); }

}  // namespace belay::base
