#include "runtime/base/shared_memory.h"

#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "runtime/base/check.h"
#include "runtime/base/units.h"

namespace belay::base {

namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::uint64_t kHugePageBytes = 2 * kMiB;
constexpr std::uint32_t kControlVersion = 1;
constexpr int kFrozen = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

Status SizeAndSeal(int fd, std::uint64_t size_bytes) {
  if (::ftruncate(fd, static_cast<off_t>(size_bytes)) != 0) return FailErrno(errno, "cannot size shared memory");
  if (::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return FailErrno(errno, "cannot seal shared memory");
  }
  return {};
}

// From the reserved pool of huge pages; not valid if it has too few.
UniqueFd CreateFromPool(const SharedMemoryRequest& request) {
  UniqueFd fd(::memfd_create(request.name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | MFD_HUGE_2MB));
  const std::uint64_t size_bytes = AlignUp(request.size_bytes, kHugePageBytes);
  if (!fd.valid() || !SizeAndSeal(fd.get(), size_bytes)) return {};
  // The first mapping reserves the pages for the memory's whole life, or fails now instead of by SIGBUS later.
  void* probe = ::mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (probe == MAP_FAILED) return {};
  ::munmap(probe, size_bytes);
  return fd;
}

Status TouchRange(std::span<std::byte> bytes) {
  const auto start = reinterpret_cast<std::uintptr_t>(bytes.data()) / kPageBytes * kPageBytes;
  const auto end = AlignUp(reinterpret_cast<std::uintptr_t>(bytes.data() + bytes.size()), kPageBytes);
  while (::madvise(reinterpret_cast<void*>(start), end - start, MADV_POPULATE_WRITE) != 0) {
    if (errno == EINTR || errno == EAGAIN) continue;
    if (errno == ENOMEM || errno == EFAULT) {
      return Fail(Code::kOutOfMemory, "no memory for ", HumanBytes(bytes.size()), " of shared memory");
    }
    // Before Linux 5.14: touch one byte a page without changing it.
    for (std::size_t at = 0; at < bytes.size(); at += kPageBytes) {
      __atomic_fetch_or(reinterpret_cast<unsigned char*>(&bytes[at]), 0, __ATOMIC_RELAXED);
    }
    return {};
  }
  return {};
}

}  // namespace

Mapping::~Mapping() {
  if (!valid()) return;
  const int unmapped = ::munmap(bytes_.data(), mapped_bytes_);
  BELAY_CHECK(unmapped == 0, "cannot unmap ", mapped_bytes_, " bytes: errno ", errno);
}

Result<UniqueFd> CreateSharedMemory(const SharedMemoryRequest& request) {
  if (request.size_bytes == 0) return Fail(Code::kInvalidArgument, "shared memory of 0 bytes");
  if (request.huge_pages) {
    if (UniqueFd fd = CreateFromPool(request); fd.valid()) return fd;
  }
  UniqueFd fd(::memfd_create(request.name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return FailErrno(errno, "cannot make shared memory");
  BELAY_TRY(SizeAndSeal(fd.get(), AlignUp(request.size_bytes, kPageBytes)));
  return fd;
}

Result<std::uint64_t> SealedSize(int fd) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return Fail(Code::kInvalidArgument, "the descriptor is not a memory of sealed size");
  }
  struct stat info {};
  if (::fstat(fd, &info) != 0) return FailErrno(errno, "cannot stat shared memory");
  return static_cast<std::uint64_t>(info.st_size);
}

Result<UniqueFd> FreezeInMemory(const std::string& name, std::string_view content) {
  UniqueFd fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return FailErrno(errno, "cannot make shared memory");
  while (!content.empty()) {
    const ssize_t written = ::write(fd.get(), content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0 && errno == ENOSPC) return Fail(Code::kOutOfMemory, "no memory for ", name);
    if (written < 0) return FailErrno(errno, "cannot write to shared memory");
    content.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::fcntl(fd.get(), F_ADD_SEALS, kFrozen) != 0) return FailErrno(errno, "cannot seal shared memory");
  return fd;
}

Result<std::string> ReadFrozenMemory(int fd, std::uint64_t limit_bytes) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  if (seals < 0 || (seals & kFrozen) != kFrozen) {
    return Fail(Code::kInvalidArgument, "descriptor ", fd, " is not a memory that nobody can change");
  }
  struct stat info {};
  if (::fstat(fd, &info) != 0) return FailErrno(errno, "cannot stat shared memory");
  const auto size = static_cast<std::uint64_t>(info.st_size);
  if (size > limit_bytes) {
    return Fail(Code::kLimitExceeded, "a memory of ", size, " bytes, ", limit_bytes, " are possible");
  }
  std::string content(size, '\0');
  for (std::size_t done = 0; done < content.size();) {
    const ssize_t got = ::pread(fd, content.data() + done, content.size() - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return FailErrno(got < 0 ? errno : EIO, "cannot read shared memory");
    done += static_cast<std::size_t>(got);
  }
  return content;
}

Result<Mapping> MapSharedMemory(int fd, std::uint64_t size_bytes, MapAccess access) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return FailErrno(errno, "cannot stat shared memory");
  if (size_bytes == 0 || static_cast<std::uint64_t>(info.st_size) < size_bytes) {
    return Fail(Code::kInvalidArgument, "cannot map ", size_bytes, " bytes of a memory of ", info.st_size);
  }
  const bool writable = access == MapAccess::kReadWrite;
  // munmap(2) takes only whole pages of the memory's own kind; a memfd's block size is its page size.
  const std::uint64_t page_bytes = std::max(static_cast<std::uint64_t>(info.st_blksize), kPageBytes);
  const std::uint64_t mapped_bytes = AlignUp(size_bytes, page_bytes);
  void* memory = ::mmap(nullptr, mapped_bytes, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return FailErrno(errno, "cannot map shared memory");
  // A hint; whether shared memory gets huge pages is the administrator's choice.
  if (size_bytes >= kHugePageBytes) ::madvise(memory, size_bytes, MADV_HUGEPAGE);
  return Mapping(std::span(static_cast<std::byte*>(memory), size_bytes), mapped_bytes);
}

Result<UniqueFd> ReopenReadOnly(int fd) {
  UniqueFd again(::open(Str("/proc/self/fd/", fd).c_str(), O_RDONLY | O_CLOEXEC));
  if (!again.valid()) return FailErrno(errno, "cannot open shared memory read-only");
  return again;
}

Status TouchPages(std::span<std::byte> bytes, int threads) {
  if (bytes.empty()) return {};
  // Whole huge pages a thread, so that no two threads meet in one.
  const std::size_t share = AlignUp(bytes.size() / static_cast<std::size_t>(std::max(threads, 1)) + 1, kHugePageBytes);
  std::mutex mutex;
  Status first;
  const auto touch = [&](std::size_t start) {
    Status touched = TouchRange(bytes.subspan(start, std::min(share, bytes.size() - start)));
    const std::scoped_lock lock(mutex);
    if (!touched) first = std::move(touched);
  };
  {
    std::vector<std::jthread> workers;
    std::size_t start = share;
    try {
      for (; start < bytes.size(); start += share) workers.emplace_back(touch, start);
    } catch (const std::system_error&) {  // no more threads to be had: this one does the rest
    }
    touch(0);
    for (; start < bytes.size(); start += share) touch(start);
  }
  return first;
}

Result<SharedControlPage> SharedControlPage::Create() {
  BELAY_ASSIGN(UniqueFd fd, CreateSharedMemory({.name = "belay-control", .size_bytes = kPageBytes}));
  BELAY_ASSIGN(Mapping mapping, MapSharedMemory(fd.get(), kPageBytes, MapAccess::kReadWrite));
  auto* page = new (mapping.bytes().data()) ControlPage{};
  const std::uint64_t unknown = DoubleBits(std::numeric_limits<double>::quiet_NaN());
  page->magic = kControlMagic;
  page->version = kControlVersion;
  page->committed_step = -1;
  page->resumed_step = -1;
  page->loss_bits = unknown;
  page->samples_per_second_bits = unknown;
  page->tokens_per_second_bits = unknown;
  page->stall_ms_bits = unknown;
  page->data_wait_ms_bits = unknown;
  return SharedControlPage(std::move(fd), std::move(mapping));
}

Result<SharedControlPage> SharedControlPage::Map(int fd) {
  auto mapping = MapSharedMemory(fd, kPageBytes, MapAccess::kReadWrite);
  if (!mapping) {
    Error error = std::move(mapping).error();
    error.code = Code::kProtocol;
    return Wrap(std::move(error), "descriptor ", fd, " is not a control page");
  }
  SharedControlPage shared(UniqueFd(), *std::move(mapping));
  if (shared.page().magic != kControlMagic) return Fail(Code::kProtocol, "descriptor ", fd, " is not a control page");
  if (shared.page().version != kControlVersion) {
    return Fail(Code::kProtocolVersion, "the control page has version ", shared.page().version, ", this program knows ",
                kControlVersion);
  }
  return shared;
}

}  // namespace belay::base
