#include "runtime/base/sim/mem_file_system.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "runtime/base/environment.h"

namespace belay::base {

namespace {
constexpr std::uint64_t kPageBytes = 4096;
}  // namespace

struct MemFileSystem::Node {
  bool is_directory = false;
  std::string target;  // of a symbolic link; empty: it is none
  std::uint64_t inode = 0;
  std::uint32_t permissions = 0;
  std::int64_t modified_ns = 0;
  std::uint32_t names = 0;  // visible ones
  std::uint32_t opens = 0;
  // What is seen, and what a crash leaves: of a file its bytes, of a folder its names.
  std::vector<std::byte> bytes, durable_bytes;
  std::map<std::string, NodePtr> entries, durable_entries;

  bool charged() const { return names + opens > 0; }
};

class MemFileSystem::MemFile final : public File {
 public:
  MemFile(MemFileSystem& files, std::string path, NodePtr node, OpenOptions::Mode mode)
      : files_(files), path_(std::move(path)), node_(std::move(node)), mode_(mode), epoch_(files.epoch_) {
    ++node_->opens;
  }
  ~MemFile() override { IgnoreError(Close(), "closing memory cannot fail"); }

  Status WriteAt(std::uint64_t offset, std::span<const std::byte> bytes) override {
    const std::scoped_lock lock(files_.mutex_);
    BELAY_TRY(Usable(true));
    if (bytes.empty()) return {};
    if (mode_ == OpenOptions::Mode::kAppend) offset = node_->bytes.size();
    const std::uint64_t end = offset + bytes.size();
    if (end > node_->bytes.size()) BELAY_TRY(files_.Resize(*node_, end, path_));
    std::memcpy(node_->bytes.data() + offset, bytes.data(), bytes.size());
    node_->modified_ns = ++files_.time_ns_;
    return {};
  }

  Result<std::size_t> ReadAt(std::uint64_t offset, std::span<std::byte> bytes) override {
    const std::scoped_lock lock(files_.mutex_);
    BELAY_TRY(Usable(false));
    const std::uint64_t size = node_->bytes.size();
    if (offset >= size) return std::size_t{0};
    const std::size_t count = std::min<std::uint64_t>(bytes.size(), size - offset);
    if (count > 0) std::memcpy(bytes.data(), node_->bytes.data() + offset, count);
    return count;
  }

  Result<std::uint64_t> Size() override {
    const std::scoped_lock lock(files_.mutex_);
    BELAY_TRY(Usable(false));
    return std::uint64_t{node_->bytes.size()};
  }

  Status Truncate(std::uint64_t size) override {
    const std::scoped_lock lock(files_.mutex_);
    BELAY_TRY(Usable(true));
    return files_.Resize(*node_, size, path_);
  }

  Status Preallocate(std::uint64_t size) override {
    const std::scoped_lock lock(files_.mutex_);
    BELAY_TRY(Usable(true));
    return size > node_->bytes.size() ? files_.Resize(*node_, size, path_) : Status();
  }

  Status Sync() override {
    const std::scoped_lock lock(files_.mutex_);
    BELAY_TRY(Usable(false));
    node_->durable_bytes = node_->bytes;
    return {};
  }

  Status Close() override {
    const std::scoped_lock lock(files_.mutex_);
    if (node_ == nullptr) return {};
    if (epoch_ == files_.epoch_) {
      --node_->opens;
      if (!node_->charged()) files_.used_bytes_ -= node_->bytes.size();
    }
    node_.reset();
    return {};
  }

  int Descriptor() const override { return -1; }

 private:
  Status Usable(bool writing) const {
    if (node_ == nullptr) return FailErrno(EBADF, "closed: " + path_);
    if (epoch_ != files_.epoch_) return Fail(Code::kIo, "the machine has crashed since ", path_, " was opened");
    if (writing && mode_ == OpenOptions::Mode::kRead) return FailErrno(EBADF, "opened for reading: " + path_);
    return writing ? files_.CheckWritable(path_) : Status();
  }

  MemFileSystem& files_;
  const std::string path_;
  NodePtr node_;
  const OpenOptions::Mode mode_;
  const std::uint64_t epoch_;
};

MemFileSystem::MemFileSystem(std::uint64_t capacity_bytes) : capacity_bytes_(capacity_bytes) {
  root_ = NewNode(true, 0755);
  root_->names = 1;
}

MemFileSystem::~MemFileSystem() = default;

Result<MemFileSystem::NodePtr> MemFileSystem::Find(const std::string& path, int links_left) const {
  NodePtr node = root_;
  for (std::size_t start = 0; start < path.size();) {
    const std::size_t slash = std::min(path.find('/', start), path.size());
    const std::string name = path.substr(start, slash - start);
    start = slash + 1;
    if (name.empty()) continue;
    if (!node->is_directory) return FailErrno(ENOTDIR, path);
    const auto found = node->entries.find(name);
    if (found == node->entries.end()) return FailErrno(ENOENT, path);
    node = found->second;
    if (node->target.empty()) continue;
    if (links_left == 0) return FailErrno(ELOOP, path);
    auto followed = Find(node->target, links_left - 1);
    if (!followed) return Fail(followed.error().code, path, " leads to ", node->target, ": ", followed.error().Text());
    node = *std::move(followed);
  }
  return node;
}

Result<MemFileSystem::NodePtr> MemFileSystem::FindUnfollowed(const std::string& path) const {
  BELAY_ASSIGN(const Place place, FindPlace(path));
  const auto found = place.folder->entries.find(place.name);
  if (found != place.folder->entries.end()) return found->second;
  return Find(path);  // the root; or the error that there is no such name
}

Result<MemFileSystem::Place> MemFileSystem::FindPlace(const std::string& path) const {
  std::string whole = path;
  while (whole.size() > 1 && whole.back() == '/') whole.pop_back();
  BELAY_ASSIGN(NodePtr folder, Find(ParentPath(whole)));
  if (!folder->is_directory) return FailErrno(ENOTDIR, path);
  return Place{std::move(folder), whole.substr(whole.find_last_of('/') + 1)};
}

Status MemFileSystem::CheckWritable(const std::string& path) const {
  if (read_only_) return FailErrno(EROFS, path);
  return {};
}

MemFileSystem::NodePtr MemFileSystem::NewNode(bool is_directory, std::uint32_t permissions) {
  auto node = std::make_shared<Node>();
  node->is_directory = is_directory;
  node->inode = next_inode_++;
  node->permissions = permissions;
  node->modified_ns = ++time_ns_;
  return node;
}

void MemFileSystem::SetName(const NodePtr& folder, const std::string& name, const NodePtr& node) {
  // The new name counts before the old goes, so that a node that keeps one is never taken for gone.
  const auto found = folder->entries.find(name);
  const NodePtr old = found == folder->entries.end() ? nullptr : found->second;
  if (node != nullptr) {
    if (!node->charged()) used_bytes_ += node->bytes.size();
    ++node->names;
    folder->entries[name] = node;
  } else {
    folder->entries.erase(name);
  }
  if (old != nullptr && --old->names == 0 && old->opens == 0) used_bytes_ -= old->bytes.size();
  folder->modified_ns = ++time_ns_;
}

void MemFileSystem::Apply(Change change) {
  for (const NameChange& name : change) SetName(name.folder, name.name, name.node);
  pending_.push_back(std::move(change));
}

Status MemFileSystem::Resize(Node& node, std::uint64_t size, const std::string& path) {
  const std::uint64_t old_size = node.bytes.size();
  if (size > old_size && used_bytes_ + (size - old_size) > capacity_bytes_) return FailErrno(ENOSPC, path);
  node.bytes.resize(size);
  used_bytes_ += size - old_size;
  node.modified_ns = ++time_ns_;
  return {};
}

Result<std::unique_ptr<File>> MemFileSystem::Open(const std::string& path, const OpenOptions& options) {
  using Mode = OpenOptions::Mode;
  const std::scoped_lock lock(mutex_);
  auto node = Find(path);
  if (options.mode == Mode::kNameless) {
    BELAY_TRY(node);
    if (!(*node)->is_directory) return FailErrno(ENOTDIR, path);
    BELAY_TRY(CheckWritable(path));
    return std::make_unique<MemFile>(*this, path, NewNode(false, options.permissions), options.mode);
  }
  if (!node && node.error().code != Code::kNotFound) return tl::unexpected(node.error());
  const bool exists = node.has_value();
  if (options.mode != Mode::kRead) BELAY_TRY(CheckWritable(path));
  if (exists && (*node)->is_directory) return FailErrno(EISDIR, path);
  if (exists && options.mode == Mode::kCreateExclusive) return FailErrno(EEXIST, path);
  if (!exists) {
    // A link that leads nowhere: files are not made through links.
    if (const auto link = FindUnfollowed(path); link && !(*link)->target.empty()) return tl::unexpected(node.error());
    if (options.mode == Mode::kRead || options.mode == Mode::kReadWrite) return FailErrno(ENOENT, path);
    BELAY_ASSIGN(Place place, FindPlace(path));
    node = NewNode(false, options.permissions);
    Apply({{place.folder, place.name, *node}});
  } else if (options.mode == Mode::kCreateOrTruncate) {
    BELAY_TRY(Resize(**node, 0, path));
  }
  return std::make_unique<MemFile>(*this, path, *node, options.mode);
}

Status MemFileSystem::Rename(const std::string& from, const std::string& to) {
  const std::scoped_lock lock(mutex_);
  BELAY_TRY(CheckWritable(from));
  BELAY_ASSIGN(const NodePtr node, FindUnfollowed(from));
  BELAY_ASSIGN(const Place source, FindPlace(from));
  BELAY_ASSIGN(const Place target, FindPlace(to));
  if (node->is_directory && (to + "/").starts_with(from + "/") && to != from) return FailErrno(EINVAL, from);
  if (const auto found = target.folder->entries.find(target.name); found != target.folder->entries.end()) {
    const Node& old = *found->second;
    if (&old == node.get()) return {};  // two names of one file: nothing happens, as rename(2) has it
    if (old.is_directory && !node->is_directory) return FailErrno(EISDIR, to);
    if (!old.is_directory && node->is_directory) return FailErrno(ENOTDIR, to);
    if (!old.entries.empty()) return FailErrno(ENOTEMPTY, to);
  }
  Apply({{target.folder, target.name, node}, {source.folder, source.name, nullptr}});
  return {};
}

Status MemFileSystem::Link(const std::string& existing, const std::string& added) {
  const std::scoped_lock lock(mutex_);
  BELAY_TRY(CheckWritable(added));
  BELAY_ASSIGN(const NodePtr node, FindUnfollowed(existing));
  if (node->is_directory) return FailErrno(EPERM, existing);
  BELAY_ASSIGN(const Place place, FindPlace(added));
  if (place.folder->entries.contains(place.name)) return FailErrno(EEXIST, added);
  Apply({{place.folder, place.name, node}});
  return {};
}

Status MemFileSystem::LinkSymbolic(const std::string& target, const std::string& added) {
  const std::scoped_lock lock(mutex_);
  BELAY_TRY(CheckWritable(added));
  if (!target.starts_with('/')) return FailErrno(EINVAL, target);
  BELAY_ASSIGN(const Place place, FindPlace(added));
  if (place.folder->entries.contains(place.name)) return FailErrno(EEXIST, added);
  const NodePtr node = NewNode(false, 0777);
  node->target = target;
  Apply({{place.folder, place.name, node}});
  return {};
}

Result<std::optional<std::string>> MemFileSystem::ReadLink(const std::string& path) {
  const std::scoped_lock lock(mutex_);
  BELAY_ASSIGN(const NodePtr node, FindUnfollowed(path));
  return node->target.empty() ? std::nullopt : std::optional(node->target);
}

Status MemFileSystem::Remove(const std::string& path) {
  const std::scoped_lock lock(mutex_);
  BELAY_TRY(CheckWritable(path));
  BELAY_ASSIGN(const NodePtr node, FindUnfollowed(path));
  if (node->is_directory) return FailErrno(EISDIR, path);
  BELAY_ASSIGN(const Place place, FindPlace(path));
  Apply({{place.folder, place.name, nullptr}});
  return {};
}

Status MemFileSystem::RemoveDirectory(const std::string& path) {
  const std::scoped_lock lock(mutex_);
  BELAY_TRY(CheckWritable(path));
  BELAY_ASSIGN(const NodePtr node, FindUnfollowed(path));
  if (!node->is_directory) return FailErrno(ENOTDIR, path);
  if (!node->entries.empty()) return FailErrno(ENOTEMPTY, path);
  if (node == root_) return FailErrno(EBUSY, path);
  BELAY_ASSIGN(const Place place, FindPlace(path));
  Apply({{place.folder, place.name, nullptr}});
  return {};
}

Status MemFileSystem::MakeDirectory(const std::string& path, std::uint32_t permissions) {
  const std::scoped_lock lock(mutex_);
  if (FindUnfollowed(path)) return FailErrno(EEXIST, path);
  BELAY_TRY(CheckWritable(path));
  BELAY_ASSIGN(const Place place, FindPlace(path));
  Apply({{place.folder, place.name, NewNode(true, permissions)}});
  return {};
}

Status MemFileSystem::SyncDirectory(const std::string& path) {
  const std::scoped_lock lock(mutex_);
  BELAY_ASSIGN(const NodePtr node, Find(path));
  if (!node->is_directory) return FailErrno(ENOTDIR, path);
  MakeDurable(node);
  return {};
}

// Every pending change of this folder, and with each everything older of the folders it touches: changes of one folder
// become durable in their order.
void MemFileSystem::MakeDurable(const NodePtr& folder) {
  std::set<NodePtr> folders = {folder};
  std::vector<Change> durable;
  std::vector<Change> left;
  for (auto change = pending_.rbegin(); change != pending_.rend(); ++change) {
    const bool touched = std::ranges::any_of(*change, [&](const NameChange& c) { return folders.contains(c.folder); });
    if (touched) {
      for (const NameChange& name : *change) folders.insert(name.folder);
    }
    (touched ? durable : left).push_back(std::move(*change));
  }
  for (auto change = durable.rbegin(); change != durable.rend(); ++change) {
    for (const NameChange& name : *change) {
      if (name.node != nullptr) {
        name.folder->durable_entries[name.name] = name.node;
      } else {
        name.folder->durable_entries.erase(name.name);
      }
    }
  }
  std::ranges::reverse(left);
  pending_ = std::move(left);
}

Result<std::vector<std::string>> MemFileSystem::List(const std::string& path) {
  const std::scoped_lock lock(mutex_);
  BELAY_ASSIGN(const NodePtr node, Find(path));
  if (!node->is_directory) return FailErrno(ENOTDIR, path);
  std::vector<std::string> names;
  for (const auto& [name, child] : node->entries) names.push_back(name);
  return names;
}

Result<FileInfo> MemFileSystem::Stat(const std::string& path) {
  const std::scoped_lock lock(mutex_);
  BELAY_ASSIGN(const NodePtr node, Find(path));
  BELAY_ASSIGN(const NodePtr name, FindUnfollowed(path));
  return FileInfo{.size_bytes = node->bytes.size(),
                  .inode = node->inode,
                  .device = 1,
                  .owner_uid = UserId(),
                  .permissions = node->permissions,
                  .is_directory = node->is_directory,
                  .is_link = name != node,
                  .modified_unix_ns = node->modified_ns};
}

Result<SpaceInfo> MemFileSystem::Space(const std::string& path) {
  const std::scoped_lock lock(mutex_);
  BELAY_TRY(Find(path));
  return SpaceInfo{.total_bytes = capacity_bytes_,
                   .available_bytes = capacity_bytes_ - std::min(used_bytes_, capacity_bytes_)};
}

void MemFileSystem::Crash() {
  const std::scoped_lock lock(mutex_);
  CrashWith(nullptr);
}

void MemFileSystem::Crash(std::uint64_t seed) {
  const std::scoped_lock lock(mutex_);
  Rng rng(seed);
  CrashWith(&rng);
}

void MemFileSystem::CrashWith(Rng* rng) {
  ++epoch_;
  for (const Change& change : pending_) {
    if (rng == nullptr || rng->Below(2) == 0) continue;
    for (const NameChange& name : change) {
      if (name.node != nullptr) {
        name.folder->durable_entries[name.name] = name.node;
      } else {
        name.folder->durable_entries.erase(name.name);
      }
    }
  }
  pending_.clear();
  // Whatever the durable names reach, once each, in an order that only the names decide.
  std::set<std::uint64_t> seen = {root_->inode};
  std::vector<NodePtr> todo = {root_};
  used_bytes_ = 0;
  while (!todo.empty()) {
    const NodePtr node = todo.back();
    todo.pop_back();
    CrashNode(*node, rng);
    used_bytes_ += node->bytes.size();
    for (const auto& [name, child] : node->entries) {
      if (seen.insert(child->inode).second) {
        child->names = 0;
        child->opens = 0;
        todo.push_back(child);
      }
      ++child->names;
    }
  }
}

void MemFileSystem::CrashNode(Node& node, Rng* rng) {
  node.entries = node.durable_entries;
  if (rng != nullptr && node.bytes != node.durable_bytes) {
    std::vector<std::byte> left = node.durable_bytes;
    if (rng->Below(2) == 0) left.resize(node.bytes.size());
    for (std::uint64_t start = 0; start < std::min(left.size(), node.bytes.size()); start += kPageBytes) {
      if (rng->Below(2) == 0) continue;  // the old page, or zeros beyond the old end
      const std::uint64_t count = std::min(kPageBytes, std::min(left.size(), node.bytes.size()) - start);
      std::memcpy(left.data() + start, node.bytes.data() + start, count);
    }
    node.durable_bytes = std::move(left);
  }
  node.bytes = node.durable_bytes;
}

void MemFileSystem::SetCapacity(std::uint64_t capacity_bytes) {
  const std::scoped_lock lock(mutex_);
  capacity_bytes_ = capacity_bytes;
}

void MemFileSystem::SetReadOnly(bool read_only) {
  const std::scoped_lock lock(mutex_);
  read_only_ = read_only;
}

}  // namespace belay::base
