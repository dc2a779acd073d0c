// What a crash may leave on a disk, every possibility of it, by the contract of base::FileSystem.
//
// Deliberately another model than base::MemFileSystem, which the programs under test run on: two that agree are worth
// more than one that is asked twice. Durable are a file's bytes after its sync and a folder's names after its sync.
// Of the rest anything may have survived:
//
//   names   each creation, link (symbolic ones too), rename, removal on its own, or not; a rename whole or not at all
//   data    of each file each 4 KiB page on its own: as it was, as any write since made it, the first half of one and
//           the second half of the other, or zeros where the file was not so long before
//   length  as it was, or as any operation since made it
//
// The index's batches are durable when Write returns; that is RocksDB's promise, tested elsewhere.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/crash/disk_log.h"

namespace belay::crash {

// One file's bytes, or where a symbolic link leads, shared by all the images that hold them.
struct Content {
  std::string bytes;
  std::string digest;  // tells contents apart
  bool is_link = false;
};
using ContentPtr = std::shared_ptr<const Content>;

struct DiskImage {
  std::map<std::string, ContentPtr> paths;  // null: a folder
  std::map<std::string, std::string> index;
  std::string Key() const;  // equal for equal images
};

struct EnumerationLimits {
  // Up to so many name changes under way every subset of them is tried; with more: each order's beginning, with up to
  // one change of it missing, and every subset that lacks or holds at most two.
  std::size_t all_name_subsets_max = 10;
  // Up to so many combinations of the contents of files every one is tried; with more each file goes through all its
  // own while the others are as they were or as they were meant to be.
  std::size_t all_contents_max = 2500;
};

class DiskModel {
 public:
  DiskModel();
  ~DiskModel();

  void Apply(const DiskOperation& operation);
  // The disk as programs see it: what the death of a process leaves.
  DiskImage Visible() const;
  // Everything that a power cut may leave now. False: the limits made it a systematic selection.
  bool ForEachImage(const EnumerationLimits& limits, const std::function<void(const DiskImage&)>& visit) const;

 private:
  struct Node;
  using NodePtr = std::shared_ptr<Node>;
  struct NameChange {
    NodePtr folder;
    std::string name;
    NodePtr node;  // null: removed
  };
  using Change = std::vector<NameChange>;  // survives whole or not at all
  using Tree = std::map<std::string, NodePtr>;

  NodePtr Find(const std::string& path) const;
  NodePtr NewNode(bool is_folder);
  void ChangeNames(Change change);
  void MakeDurable(const NodePtr& folder);
  Tree TreeOf(const std::vector<bool>& survives) const;
  static const std::vector<ContentPtr>& ContentsOf(const Node& node, bool& complete);
  std::vector<std::vector<bool>> NameSubsets(std::size_t all_max, bool& complete) const;

  NodePtr root_;
  std::vector<Change> pending_;  // oldest first
  std::map<std::uint64_t, NodePtr> opened_;
  std::map<std::string, std::string> index_;
  std::uint64_t nodes_ = 0;
};

}  // namespace belay::crash
