// A file of the machine. Inside runtime/base/posix only.
#pragma once

#include <memory>
#include <string>

#include "runtime/base/file_system.h"
#include "runtime/base/posix/bulk_engine.h"
#include "runtime/base/unique_fd.h"

namespace belay::base {

// Memory at a page's start, as direct I/O wants it.
struct AlignedDelete {
  void operator()(std::byte* memory) const;
};
using AlignedMemory = std::unique_ptr<std::byte[], AlignedDelete>;

class PosixFile final : public File {
 public:
  PosixFile(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  // Turns a fresh file into a bulk one, the best way up to `best` that works here.
  void UseBulk(BulkMethod best, bool writable, const BulkShape& shape);
  BulkMethod method() const { return method_; }
  const BulkShape& shape() const { return shape_; }

  Status WriteAt(std::uint64_t offset, std::span<const std::byte> bytes) override;
  Result<std::size_t> ReadAt(std::uint64_t offset, std::span<std::byte> bytes) override;
  Result<std::uint64_t> Size() override;
  Status Truncate(std::uint64_t size) override;
  Status Preallocate(std::uint64_t size) override;
  Status Sync() override;
  Status Close() override;
  int Descriptor() const override { return fd_.get(); }

 private:
  TransferResult Move(Transfer transfer);
  TransferResult MoveDirect(const Transfer& transfer);
  TransferResult MoveAligned(const Transfer& transfer);
  TransferResult MoveBuffered(Transfer transfer);

  const std::string path_;
  UniqueFd fd_;
  UniqueFd direct_;  // the same file with O_DIRECT; not valid: buffered
  BulkMethod method_ = BulkMethod::kBuffered;
  BulkShape shape_;
  std::unique_ptr<BulkEngine> engine_;  // null: not bulk
  AlignedMemory bounce_;                // made when first needed
};

}  // namespace belay::base
