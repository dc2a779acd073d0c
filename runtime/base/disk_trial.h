// A file that is written and read only to see how long that takes, with the code that moves every bulk file. It has no
// name: however the measurement ends, its space is given back by the kernel.
//
// Blocking; one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "runtime/base/clock.h"
#include "runtime/base/file_system.h"

namespace belay::base {

class DiskTrial {
 public:
  static constexpr std::uint64_t kPieceBytes = 128 * kMiB;  // of one call, as belayd writes

  struct Plan {
    std::string folder;
    std::uint64_t bytes = 0;
    std::optional<BulkShape> shape{};  // none: the device's
  };
  // Makes the file and reserves its blocks. `memory`, which outlives this, is what is written, in turns, and what is
  // read into. kNoSpace, kNotFound, kPermissionDenied and so on of the folder.
  static Result<DiskTrial> Make(FileSystem& files, Clock& clock, const Plan& plan, std::span<std::byte> memory);

  // How many seconds each took; call them in this order.
  Result<double> Write();         // until the last write returned
  Result<double> Sync();          // from then until the file is durable
  Result<double> Read();          // past the page cache, where that is possible
  Result<double> ReadBuffered();  // through the page cache, which holds none of it at first

 private:
  DiskTrial(Clock& clock, const Plan& plan, std::span<std::byte> memory, std::unique_ptr<File> file)
      : clock_(&clock), plan_(plan), memory_(memory), file_(std::move(file)) {}
  template <typename Work>
  Result<double> Timed(const Work& work);
  template <typename Move>
  Result<double> InPieces(const Move& move);
  Result<double> ReadFrom(File& file);

  Clock* clock_;
  Plan plan_;
  std::span<std::byte> memory_;
  std::unique_ptr<File> file_;
};

}  // namespace belay::base
