#include "runtime/base/fault/faulty_file_system.h"

#include "runtime/base/rng.h"

namespace belay::base {

struct FaultyFileSystem::Rules {
  struct Rule {
    FileFault fault;
    std::uint64_t passed = 0;
    std::uint64_t fired = 0;
  };

  std::optional<FileFault> Match(FileOperation operation, const std::string& path) {
    const std::scoped_lock lock(mutex);
    for (Rule& rule : rules) {
      const FileFault& fault = rule.fault;
      if (fault.operation != operation || path.find(fault.path_contains) == std::string::npos) continue;
      if (++rule.passed <= fault.skip || (fault.count != 0 && rule.fired == fault.count)) continue;
      ++rule.fired;
      return fault;
    }
    return std::nullopt;
  }

  // For operations that can only fail whole.
  Status Pass(FileOperation operation, const std::string& path) {
    if (const auto fault = Match(operation, path)) return Fail(fault->code, "injected fault: ", path);
    return {};
  }
  template <typename CarryOut>
  Status Pass(FileOperation operation, const std::string& path, const CarryOut& carry_out) {
    const auto fault = Match(operation, path);
    if (!fault) return carry_out();
    if (fault->kind == FileFault::Kind::kSwallow) return {};
    return Fail(fault->code, "injected fault: ", path);
  }

  mutable std::mutex mutex;
  std::vector<Rule> rules;
};

class FaultyFileSystem::FaultyFile final : public File {
 public:
  FaultyFile(std::shared_ptr<Rules> rules, std::string path, std::unique_ptr<File> file)
      : rules_(std::move(rules)), path_(std::move(path)), file_(std::move(file)) {}

  Status WriteAt(std::uint64_t offset, std::span<const std::byte> bytes) override {
    const auto fault = rules_->Match(FileOperation::kWrite, path_);
    if (!fault) return file_->WriteAt(offset, bytes);
    if (fault->kind == FileFault::Kind::kBitFlip && !bytes.empty()) {
      std::vector<std::byte> wrong(bytes.begin(), bytes.end());
      FlipBit(wrong, fault->seed);
      return file_->WriteAt(offset, wrong);
    }
    if (fault->kind == FileFault::Kind::kSwallow) return {};
    if (fault->kind == FileFault::Kind::kShortWrite) BELAY_TRY(file_->WriteAt(offset, bytes.first(bytes.size() / 2)));
    return Fail(fault->code, "injected fault: cannot write ", path_);
  }

  Result<std::size_t> ReadAt(std::uint64_t offset, std::span<std::byte> bytes) override {
    const auto fault = rules_->Match(FileOperation::kRead, path_);
    if (fault && fault->kind != FileFault::Kind::kBitFlip) {
      return Fail(fault->code, "injected fault: cannot read ", path_);
    }
    BELAY_ASSIGN(const std::size_t got, file_->ReadAt(offset, bytes));
    if (fault && got > 0) FlipBit(bytes.first(got), fault->seed);
    return got;
  }

  Result<std::uint64_t> Size() override { return file_->Size(); }
  Status Truncate(std::uint64_t size) override {
    return rules_->Pass(FileOperation::kTruncate, path_, [&] { return file_->Truncate(size); });
  }
  Status Preallocate(std::uint64_t size) override {
    return rules_->Pass(FileOperation::kPreallocate, path_, [&] { return file_->Preallocate(size); });
  }
  Status Sync() override {
    return rules_->Pass(FileOperation::kSync, path_, [&] { return file_->Sync(); });
  }
  Status Close() override {
    const Status passed = rules_->Pass(FileOperation::kClose, path_);
    BELAY_TRY(file_->Close());  // close(2) releases the file even when it fails
    return passed;
  }
  int Descriptor() const override { return file_->Descriptor(); }

 private:
  static void FlipBit(std::span<std::byte> bytes, std::uint64_t seed) {
    Rng rng(seed);
    bytes[rng.Below(bytes.size())] ^= static_cast<std::byte>(1U << rng.Below(8));
  }

  const std::shared_ptr<Rules> rules_;
  const std::string path_;
  const std::unique_ptr<File> file_;
};

FaultyFileSystem::FaultyFileSystem(FileSystem& files) : files_(files), rules_(std::make_shared<Rules>()) {}
FaultyFileSystem::~FaultyFileSystem() = default;

std::size_t FaultyFileSystem::Add(FileFault fault) {
  const std::scoped_lock lock(rules_->mutex);
  rules_->rules.push_back({std::move(fault)});
  return rules_->rules.size() - 1;
}

void FaultyFileSystem::Clear() {
  const std::scoped_lock lock(rules_->mutex);
  rules_->rules.clear();
}

std::uint64_t FaultyFileSystem::Fired(std::size_t rule) const {
  const std::scoped_lock lock(rules_->mutex);
  return rules_->rules.at(rule).fired;
}

Result<std::unique_ptr<File>> FaultyFileSystem::Open(const std::string& path, const OpenOptions& options) {
  BELAY_TRY(rules_->Pass(FileOperation::kOpen, path));
  BELAY_ASSIGN(auto file, files_.Open(path, options));
  return std::make_unique<FaultyFile>(rules_, path, std::move(file));
}

Status FaultyFileSystem::Rename(const std::string& from, const std::string& to) {
  return rules_->Pass(FileOperation::kRename, from + "\n" + to, [&] { return files_.Rename(from, to); });
}

Status FaultyFileSystem::Link(const std::string& existing, const std::string& added) {
  return rules_->Pass(FileOperation::kLink, existing + "\n" + added, [&] { return files_.Link(existing, added); });
}

Status FaultyFileSystem::LinkSymbolic(const std::string& target, const std::string& added) {
  return rules_->Pass(FileOperation::kLink, target + "\n" + added, [&] { return files_.LinkSymbolic(target, added); });
}

Result<std::optional<std::string>> FaultyFileSystem::ReadLink(const std::string& path) {
  BELAY_TRY(rules_->Pass(FileOperation::kStat, path));
  return files_.ReadLink(path);
}

Status FaultyFileSystem::Remove(const std::string& path) {
  return rules_->Pass(FileOperation::kRemove, path, [&] { return files_.Remove(path); });
}

Status FaultyFileSystem::RemoveDirectory(const std::string& path) {
  return rules_->Pass(FileOperation::kRemoveDirectory, path, [&] { return files_.RemoveDirectory(path); });
}

Status FaultyFileSystem::MakeDirectory(const std::string& path, std::uint32_t permissions) {
  return rules_->Pass(FileOperation::kMakeDirectory, path, [&] { return files_.MakeDirectory(path, permissions); });
}

Status FaultyFileSystem::SyncDirectory(const std::string& path) {
  return rules_->Pass(FileOperation::kSyncDirectory, path, [&] { return files_.SyncDirectory(path); });
}

Result<std::vector<std::string>> FaultyFileSystem::List(const std::string& path) {
  BELAY_TRY(rules_->Pass(FileOperation::kList, path));
  return files_.List(path);
}

Result<FileInfo> FaultyFileSystem::Stat(const std::string& path) {
  BELAY_TRY(rules_->Pass(FileOperation::kStat, path));
  return files_.Stat(path);
}

Result<SpaceInfo> FaultyFileSystem::Space(const std::string& path) {
  BELAY_TRY(rules_->Pass(FileOperation::kSpace, path));
  return files_.Space(path);
}

}  // namespace belay::base
