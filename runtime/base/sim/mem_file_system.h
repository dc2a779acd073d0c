// FileSystem twin in memory that knows what a power cut would leave.
//
// Two states of everything: what the program sees, and what is durable. File::Sync() makes a file's bytes durable,
// SyncDirectory() the names in a folder; a rename is one change of both folders and becomes durable whole. Crash() goes
// back to the durable state. As on real disks some of the rest may survive too: Crash(seed) keeps a random part of it,
// name changes one by one and data in pages of 4 KiB, where a new page may also read as zeros.
//
// Files opened before a crash answer kIo from then on. Symbolic links lead to absolute paths only. No permissions,
// Descriptor() is -1. Thread-safe.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/base/file_system.h"
#include "runtime/base/rng.h"

namespace belay::base {

class MemFileSystem final : public FileSystem {
 public:
  explicit MemFileSystem(std::uint64_t capacity_bytes = std::numeric_limits<std::uint64_t>::max() / 2);
  ~MemFileSystem() override;

  Result<std::unique_ptr<File>> Open(const std::string& path, const OpenOptions& options) override;
  Status Rename(const std::string& from, const std::string& to) override;
  Status Link(const std::string& existing, const std::string& added) override;
  Status LinkSymbolic(const std::string& target, const std::string& added) override;
  Result<std::optional<std::string>> ReadLink(const std::string& path) override;
  Status Remove(const std::string& path) override;
  Status RemoveDirectory(const std::string& path) override;
  Status MakeDirectory(const std::string& path, std::uint32_t permissions) override;
  Status SyncDirectory(const std::string& path) override;
  Result<std::vector<std::string>> List(const std::string& path) override;
  Result<FileInfo> Stat(const std::string& path) override;
  Result<SpaceInfo> Space(const std::string& path) override;

  // The power goes, and everything that was not durable with it.
  void Crash();
  // The same, but a part of what was not durable has made it, chosen by the seed.
  void Crash(std::uint64_t seed);

  // Smaller than what is used: nothing can grow. kNoSpace meets whoever tries.
  void SetCapacity(std::uint64_t capacity_bytes);
  // As a file system that the kernel has remounted read-only after an error.
  void SetReadOnly(bool read_only);

 private:
  struct Node;
  class MemFile;
  static constexpr int kLinksMax = 8;  // that lead to each other
  using NodePtr = std::shared_ptr<Node>;
  struct NameChange {
    NodePtr folder;
    std::string name;
    NodePtr node;  // null: removed
  };
  using Change = std::vector<NameChange>;  // what becomes durable together

  struct Place {
    NodePtr folder;
    std::string name;
  };

  // All of these: mutex_ held.
  Result<NodePtr> Find(const std::string& path, int links_left = kLinksMax) const;
  Result<NodePtr> FindUnfollowed(const std::string& path) const;  // what the name itself is, be it a symbolic link
  Result<Place> FindPlace(const std::string& path) const;
  Status CheckWritable(const std::string& path) const;
  NodePtr NewNode(bool is_directory, std::uint32_t permissions);
  void Apply(Change change);
  void SetName(const NodePtr& folder, const std::string& name, const NodePtr& node);
  Status Resize(Node& node, std::uint64_t size, const std::string& path);
  void MakeDurable(const NodePtr& folder);
  void CrashWith(Rng* rng);
  void CrashNode(Node& node, Rng* rng);

  mutable std::mutex mutex_;
  NodePtr root_;
  std::vector<Change> pending_;  // oldest first
  std::uint64_t capacity_bytes_;
  std::uint64_t used_bytes_ = 0;
  std::uint64_t next_inode_ = 1;
  std::int64_t time_ns_ = 1;  // counts changes: later ones have later times
  std::uint64_t epoch_ = 0;   // raised by every crash
  bool read_only_ = false;
};

}  // namespace belay::base
