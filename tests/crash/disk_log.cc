#include "tests/crash/disk_log.h"

#include <algorithm>
#include <array>
#include <utility>

namespace belay::crash {

using base::Status;
using Kind = DiskOperation::Kind;

std::string Describe(const DiskOperation& operation) {
  constexpr std::array<const char*, 12> kNames = {
      "open",   "write",  "resize to",     "sync",        "link",        "link symbolically",
      "rename", "remove", "remove folder", "make folder", "sync folder", "write the index"};
  std::string text = base::Str(kNames[static_cast<std::size_t>(operation.kind)], " ", operation.path);
  if (operation.kind == Kind::kWrite) text += base::Str(operation.bytes.size(), " bytes at ", operation.offset);
  if (operation.kind == Kind::kResize) text += base::Str(operation.offset);
  if (operation.handle != 0) text += base::Str(" (file #", operation.handle, ")");
  if (!operation.to.empty()) text += " to " + operation.to;
  return text;
}

class RecordingFileSystem::RecordingFile final : public base::File {
 public:
  RecordingFile(DiskLog& log, std::unique_ptr<base::File> file, std::uint64_t handle)
      : log_(log), file_(std::move(file)), handle_(handle) {}

  Status WriteAt(std::uint64_t offset, std::span<const std::byte> bytes) override {
    BELAY_TRY(file_->WriteAt(offset, bytes));
    log_.Add({.kind = Kind::kWrite,
              .handle = handle_,
              .offset = offset,
              .bytes = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size())});
    return {};
  }
  base::Result<std::size_t> ReadAt(std::uint64_t offset, std::span<std::byte> bytes) override {
    return file_->ReadAt(offset, bytes);
  }
  base::Result<std::uint64_t> Size() override { return file_->Size(); }
  Status Truncate(std::uint64_t size) override {
    BELAY_TRY(file_->Truncate(size));
    log_.Add({.kind = Kind::kResize, .handle = handle_, .offset = size});
    return {};
  }
  Status Preallocate(std::uint64_t size) override {
    BELAY_TRY(file_->Preallocate(size));
    BELAY_ASSIGN(const std::uint64_t now, file_->Size());
    log_.Add({.kind = Kind::kResize, .handle = handle_, .offset = now});
    return {};
  }
  Status Sync() override {
    BELAY_TRY(file_->Sync());
    log_.Add({.kind = Kind::kSync, .handle = handle_});
    return {};
  }
  Status Close() override { return file_->Close(); }
  int Descriptor() const override { return file_->Descriptor(); }

 private:
  DiskLog& log_;
  const std::unique_ptr<base::File> file_;
  const std::uint64_t handle_;
};

base::Result<std::unique_ptr<base::File>> RecordingFileSystem::Open(const std::string& path,
                                                                    const base::OpenOptions& options) {
  using Mode = base::OpenOptions::Mode;
  BELAY_ASSIGN(auto file, files_.Open(path, options));
  if (options.mode == Mode::kRead) return file;
  // A write at the end would need the place it went to; the service appends to nothing but its log.
  if (options.mode == Mode::kAppend) return base::Fail(base::Code::kUnsupported, "not recorded: appending to ", path);
  const std::uint64_t handle = log_.NextHandle();
  log_.Add({.kind = Kind::kOpen, .path = path, .handle = handle, .truncate = options.mode == Mode::kCreateOrTruncate});
  return std::make_unique<RecordingFile>(log_, std::move(file), handle);
}

Status RecordingFileSystem::Note(Status done, DiskOperation operation) {
  if (done) log_.Add(std::move(operation));
  return done;
}

Status RecordingFileSystem::Rename(const std::string& from, const std::string& to) {
  return Note(files_.Rename(from, to), {.kind = Kind::kRename, .path = from, .to = to});
}
Status RecordingFileSystem::Link(const std::string& existing, const std::string& added) {
  return Note(files_.Link(existing, added), {.kind = Kind::kLink, .path = existing, .to = added});
}
Status RecordingFileSystem::LinkSymbolic(const std::string& target, const std::string& added) {
  return Note(files_.LinkSymbolic(target, added), {.kind = Kind::kLinkSymbolic, .path = target, .to = added});
}
Status RecordingFileSystem::Remove(const std::string& path) {
  return Note(files_.Remove(path), {.kind = Kind::kRemove, .path = path});
}
Status RecordingFileSystem::RemoveDirectory(const std::string& path) {
  return Note(files_.RemoveDirectory(path), {.kind = Kind::kRemoveDirectory, .path = path});
}
Status RecordingFileSystem::MakeDirectory(const std::string& path, std::uint32_t permissions) {
  return Note(files_.MakeDirectory(path, permissions), {.kind = Kind::kMakeDirectory, .path = path});
}
Status RecordingFileSystem::SyncDirectory(const std::string& path) {
  return Note(files_.SyncDirectory(path), {.kind = Kind::kSyncDirectory, .path = path});
}

Status RecordingIndex::Write(const base::IndexBatch& batch) {
  BELAY_TRY(index_.Write(batch));
  log_.Add({.kind = Kind::kIndex, .batch = batch});
  return {};
}

}  // namespace belay::crash
