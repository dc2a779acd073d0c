// How bulk files move their bytes: many blocks in flight. Inside runtime/base/posix only.
//
// An engine belongs to one open file and runs on one thread at a time. Engines for direct I/O want the offset, the size
// and the address to be multiples of kDirectAlignment; the file in front of them (posix_file_system.cc) sees to it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "runtime/base/file_system.h"

namespace belay::base {

inline constexpr std::size_t kDirectAlignment = 4096;

enum class BulkMethod : std::uint8_t { kIoUring, kDirect, kBuffered };
std::string_view BulkMethodName(BulkMethod method);

struct Transfer {
  enum class Kind : std::uint8_t { kRead, kWrite };
  Kind kind = Kind::kRead;
  int fd = -1;
  std::uint64_t offset = 0;
  std::byte* data = nullptr;  // only read from where kind is kWrite
  std::size_t size = 0;
};

struct TransferResult {
  int error = 0;          // errno of the first failure
  std::size_t bytes = 0;  // moved from the start without a gap; less than asked without an error: the file ended
};

class BulkEngine {
 public:
  virtual ~BulkEngine() = default;
  // Returns when nothing of it is in flight any more, also after an error.
  virtual TransferResult Run(const Transfer& transfer) = 0;
};

// All want a usable shape. Null where the kernel or a sandbox refuses io_uring.
std::unique_ptr<BulkEngine> MakeUringEngine(const BulkShape& shape);
// A few threads with pread/pwrite: fewer than the shape has in flight.
std::unique_ptr<BulkEngine> MakeThreadEngine(const BulkShape& shape);
// Through the page cache, with write-behind so that the final sync finds little to do.
std::unique_ptr<BulkEngine> MakeBufferedEngine(const BulkShape& shape);

// All of it by pread/pwrite on the calling thread, interruptions and short transfers ridden out.
TransferResult RunPlain(const Transfer& transfer);

}  // namespace belay::base
