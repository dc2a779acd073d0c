#include "runtime/base/posix/posix_file.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "runtime/base/check.h"
#include "runtime/base/units.h"

namespace belay::base {

namespace {

constexpr std::size_t kBounceBytes = 16 * kMiB;

bool Aligned(const void* address) { return reinterpret_cast<std::uintptr_t>(address) % kDirectAlignment == 0; }

// On tmpfs O_DIRECT is refused or means nothing: the page cache is the file.
bool LivesInMemory(int fd) {
  struct statfs info {};
  return ::fstatfs(fd, &info) == 0 && (info.f_type == TMPFS_MAGIC || info.f_type == RAMFS_MAGIC);
}

}  // namespace

void AlignedDelete::operator()(std::byte* memory) const { std::free(memory); }

void PosixFile::UseBulk(BulkMethod best, bool writable, const BulkShape& shape) {
  BELAY_CHECK(IsUsable(shape), "blocks of ", shape.block_bytes, " bytes, ", shape.queue_depth, " in flight");
  shape_ = shape;
  method_ = BulkMethod::kBuffered;
  engine_ = MakeBufferedEngine(shape);
  if (best == BulkMethod::kBuffered || LivesInMemory(fd_.get())) return;
  // Through /proc: the same inode, even if the name has moved on.
  const std::string self = Str("/proc/self/fd/", fd_.get());
  UniqueFd direct(::open(self.c_str(), (writable ? O_RDWR : O_RDONLY) | O_DIRECT | O_CLOEXEC));
  if (!direct.valid()) return;
  std::unique_ptr<BulkEngine> engine = best == BulkMethod::kIoUring ? MakeUringEngine(shape) : nullptr;
  method_ = engine != nullptr ? BulkMethod::kIoUring : BulkMethod::kDirect;
  engine_ = engine != nullptr ? std::move(engine) : MakeThreadEngine(shape);
  direct_ = std::move(direct);
}

TransferResult PosixFile::MoveBuffered(Transfer transfer) {
  transfer.fd = fd_.get();
  return RunPlain(transfer);
}

// Offset and size are whole pages; the address may be any.
TransferResult PosixFile::MoveAligned(const Transfer& transfer) {
  Transfer direct = transfer;
  direct.fd = direct_.get();
  if (Aligned(transfer.data)) return engine_->Run(direct);
  if (bounce_ == nullptr) {
    bounce_.reset(static_cast<std::byte*>(std::aligned_alloc(kDirectAlignment, kBounceBytes)));
    if (bounce_ == nullptr) return {ENOMEM, 0};
  }
  TransferResult all;
  while (all.bytes < transfer.size) {
    const std::size_t size = std::min(kBounceBytes, transfer.size - all.bytes);
    direct.offset = transfer.offset + all.bytes;
    direct.data = bounce_.get();
    direct.size = size;
    if (transfer.kind == Transfer::Kind::kWrite) std::memcpy(bounce_.get(), transfer.data + all.bytes, size);
    const TransferResult moved = engine_->Run(direct);
    if (transfer.kind == Transfer::Kind::kRead) std::memcpy(transfer.data + all.bytes, bounce_.get(), moved.bytes);
    all.bytes += moved.bytes;
    all.error = moved.error;
    if (moved.error != 0 || moved.bytes < size) break;
  }
  return all;
}

// Splits into an unaligned head, whole pages, and an unaligned tail. Head and tail go through the page cache; the
// kernel keeps both ways coherent, and pages never overlap within one call.
TransferResult PosixFile::MoveDirect(const Transfer& transfer) {
  const std::uint64_t end = transfer.offset + transfer.size;
  const std::uint64_t first = std::min(AlignUp(transfer.offset, kDirectAlignment), end);
  const std::uint64_t last = std::max(end / kDirectAlignment * kDirectAlignment, first);
  TransferResult all;
  const auto piece = [&](std::uint64_t from, std::uint64_t to, auto&& move) {
    if (from >= to || all.error != 0 || all.bytes != from - transfer.offset) return;
    Transfer part = transfer;
    part.offset = from;
    part.data = transfer.data + (from - transfer.offset);
    part.size = to - from;
    TransferResult moved = move(part);
    // This device or network file system wants another alignment than we know: the slow way always works.
    if (moved.error == EINVAL) moved = MoveBuffered(part);
    all.bytes += moved.bytes;
    all.error = moved.error;
  };
  piece(transfer.offset, first, [&](const Transfer& part) { return MoveBuffered(part); });
  piece(first, last, [&](const Transfer& part) { return MoveAligned(part); });
  piece(last, end, [&](const Transfer& part) { return MoveBuffered(part); });
  return all;
}

TransferResult PosixFile::Move(Transfer transfer) {
  if (transfer.size == 0) return {};
  if (engine_ == nullptr) return MoveBuffered(transfer);
  if (direct_.valid()) return MoveDirect(transfer);
  transfer.fd = fd_.get();
  return engine_->Run(transfer);
}

Status PosixFile::WriteAt(std::uint64_t offset, std::span<const std::byte> bytes) {
  BELAY_CHECK(fd_.valid(), "write after close of ", path_);
  // The engines never write to the memory of a kWrite transfer.
  auto* data = const_cast<std::byte*>(bytes.data());
  const TransferResult moved = Move({Transfer::Kind::kWrite, -1, offset, data, bytes.size()});
  if (moved.error != 0) return FailErrno(moved.error, "cannot write " + path_);
  return {};
}

Result<std::size_t> PosixFile::ReadAt(std::uint64_t offset, std::span<std::byte> bytes) {
  BELAY_CHECK(fd_.valid(), "read after close of ", path_);
  if (direct_.valid()) {
    // Direct reads of whole pages would otherwise be asked for beyond the end.
    BELAY_ASSIGN(const std::uint64_t size, Size());
    bytes = bytes.first(std::min<std::uint64_t>(bytes.size(), size - std::min(size, offset)));
  }
  const TransferResult moved = Move({Transfer::Kind::kRead, -1, offset, bytes.data(), bytes.size()});
  if (moved.error != 0) return FailErrno(moved.error, "cannot read " + path_);
  return moved.bytes;
}

Result<std::uint64_t> PosixFile::Size() {
  struct stat info {};
  if (::fstat(fd_.get(), &info) != 0) return FailErrno(errno, "cannot stat " + path_);
  return static_cast<std::uint64_t>(info.st_size);
}

Status PosixFile::Truncate(std::uint64_t size) {
  if (::ftruncate(fd_.get(), static_cast<off_t>(size)) != 0) return FailErrno(errno, "cannot truncate " + path_);
  return {};
}

Status PosixFile::Preallocate(std::uint64_t size) {
  if (size == 0) return {};
  int failed = 0;
  do {
    failed = ::fallocate(fd_.get(), 0, 0, static_cast<off_t>(size)) == 0 ? 0 : errno;
  } while (failed == EINTR);
  if (failed == 0) return {};
  if (failed != EOPNOTSUPP && failed != ENOSYS) return FailErrno(failed, "cannot reserve space for " + path_);
  BELAY_ASSIGN(const std::uint64_t now, Size());
  return now < size ? Truncate(size) : Status();
}

Status PosixFile::Sync() {
  // fdatasync(2) also makes durable what is needed to read the data back: size and block map.
  int failed = 0;
  do {
    failed = ::fdatasync(fd_.get()) == 0 ? 0 : errno;
  } while (failed == EINTR);
  if (failed != 0) return FailErrno(failed, "cannot sync " + path_);
  if (engine_ != nullptr) ::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_DONTNEED);
  return {};
}

Status PosixFile::Close() {
  direct_.Reset();
  engine_.reset();
  if (!fd_.valid()) return {};
  // EINTR: Linux has closed it all the same.
  if (::close(fd_.Release()) != 0 && errno != EINTR) return FailErrno(errno, "cannot close " + path_);
  return {};
}

std::unique_ptr<File> FileFromDescriptor(UniqueFd descriptor, const std::string& name) {
  return std::make_unique<PosixFile>(name, std::move(descriptor));
}

}  // namespace belay::base
