// Memory shared between processes: staging memory and the control page.
//
// A shared memory is a memfd: it has no name in the file system and vanishes with its last holder, however that one
// dies. Its size is sealed when it is made, so a peer that shrinks it cannot turn our reads into SIGBUS. Thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/base/control_page.h"
#include "runtime/base/result.h"
#include "runtime/base/unique_fd.h"

namespace belay::base {

enum class MapAccess : std::uint8_t { kRead, kReadWrite };

// A mapped range; unmapped when destroyed. Movable.
class Mapping {
 public:
  Mapping() = default;
  Mapping(Mapping&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})), mapped_bytes_(std::exchange(other.mapped_bytes_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(mapped_bytes_, other.mapped_bytes_);
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping();

  // Of the asked size; a read-only mapping faults on writing.
  std::span<std::byte> bytes() const { return bytes_; }
  bool valid() const { return !bytes_.empty(); }

 private:
  friend Result<Mapping> MapSharedMemory(int fd, std::uint64_t size_bytes, MapAccess access);
  Mapping(std::span<std::byte> bytes, std::size_t mapped_bytes) : bytes_(bytes), mapped_bytes_(mapped_bytes) {}
  std::span<std::byte> bytes_;
  std::size_t mapped_bytes_ = 0;  // whole pages, where pages may be huge ones
};

struct SharedMemoryRequest {
  std::string name;  // for /proc/<pid>/maps only
  std::uint64_t size_bytes = 0;
  bool huge_pages = false;  // from the reserved pool if it has enough; otherwise the mapping asks for transparent ones
};

// New zeroed memory whose size nobody can change. kOutOfMemory, kInvalidArgument (size 0).
// The size is rounded up to whole pages (of 2 MiB with huge pages from the pool).
Result<UniqueFd> CreateSharedMemory(const SharedMemoryRequest& request);

// The size of a memory got from a peer, if it is one whose size is sealed; kInvalidArgument otherwise.
Result<std::uint64_t> SealedSize(int fd);

// A memory with this content that nobody can change any more, for a program that takes this one's place. kOutOfMemory.
Result<UniqueFd> FreezeInMemory(const std::string& name, std::string_view content);
// What such a memory holds. kInvalidArgument: it is none. kLimitExceeded.
Result<std::string> ReadFrozenMemory(int fd, std::uint64_t limit_bytes);

// Maps [0, size_bytes). kInvalidArgument if the memory is smaller than that, kPermissionDenied if it may not be
// written.
Result<Mapping> MapSharedMemory(int fd, std::uint64_t size_bytes, MapAccess access);

// The same memory through a descriptor that cannot write. Guards against a peer's mistakes, not against its malice: a
// peer of the same user can open the memory again.
Result<UniqueFd> ReopenReadOnly(int fd);

// Lets the kernel find all pages of a writable range now, on `threads` threads, instead of one by one at the first
// copy. Content is kept. kOutOfMemory where the first write would have been SIGBUS.
Status TouchPages(std::span<std::byte> bytes, int threads);

// A control page in memory of its own; see control_page.h.
class SharedControlPage {
 public:
  // A new page with magic, version and "unknown" in every field.
  static Result<SharedControlPage> Create();
  // The page behind a descriptor, which stays the caller's. kProtocol: wrong size or magic; kProtocolVersion: another
  // version.
  static Result<SharedControlPage> Map(int fd);

  ControlPage& page() const { return *reinterpret_cast<ControlPage*>(mapping_.bytes().data()); }
  int descriptor() const { return fd_.get(); }  // to be inherited; -1 in a page made by Map

 private:
  SharedControlPage(UniqueFd fd, Mapping mapping) : fd_(std::move(fd)), mapping_(std::move(mapping)) {}
  UniqueFd fd_;
  Mapping mapping_;
};

}  // namespace belay::base
