#include "tests/sim/disk.h"

#include <sys/mman.h>
#include <unistd.h>

#include "checkpoint/format/manifest.h"
#include "runtime/base/unique_fd.h"

namespace belay::checkpoint::sim {

using base::Code;

namespace {

tl::unexpected<base::Error> Dead() { return base::Fail(Code::kIo, "the process is dead"); }

// Asks, acts, and answers an error if the answer or the asker was lost.
template <typename Result, typename Act>
Result Pass(Faults& faults, Call call, std::string_view path, const Act& act) {
  const Faults::Verdict verdict = faults.Ask(call, path);
  if (verdict.effect != Faults::Effect::kNone) {
    Result done = act(verdict.effect);
    if (faults.Died()) return Dead();
    if (!verdict.error) return done;
  }
  return tl::unexpected<base::Error>(*verdict.error);
}

}  // namespace

template <typename Result, typename Act>
Result Disk::Through(Call call, const std::string& path, const Act& act) {
  return Pass<Result>(faults_, call, path, [&](Faults::Effect /*effect*/) { return act(); });
}

class Disk::GatedFile final : public base::File {
 public:
  GatedFile(Disk& disk, std::string path, std::unique_ptr<base::File> file)
      : disk_(disk), path_(std::move(path)), file_(std::move(file)) {}

  base::Status WriteAt(std::uint64_t offset, std::span<const std::byte> bytes) override {
    return Pass<base::Status>(disk_.faults_, Call::kWrite, path_, [&](Faults::Effect effect) {
      disk_.Touch(path_);
      if (effect == Faults::Effect::kHalf) return file_->WriteAt(offset, bytes.first(bytes.size() / 2));
      if (disk_.lie_ != Lie::kBytes || bytes.size() < 5000) return file_->WriteAt(offset, bytes);
      std::vector<std::byte> wrong(bytes.begin(), bytes.end());
      wrong[wrong.size() - 1] ^= std::byte{1};
      return file_->WriteAt(offset, wrong);
    });
  }
  base::Result<std::size_t> ReadAt(std::uint64_t offset, std::span<std::byte> bytes) override {
    return disk_.Through<base::Result<std::size_t>>(Call::kRead, path_, [&] { return file_->ReadAt(offset, bytes); });
  }
  base::Result<std::uint64_t> Size() override {
    return disk_.Through<base::Result<std::uint64_t>>(Call::kLook, path_, [&] { return file_->Size(); });
  }
  base::Status Truncate(std::uint64_t size) override {
    return disk_.Through<base::Status>(Call::kWrite, path_, [&] { return file_->Truncate(size); });
  }
  base::Status Preallocate(std::uint64_t size) override {
    return disk_.Through<base::Status>(Call::kWrite, path_, [&] { return file_->Preallocate(size); });
  }
  base::Status Sync() override {
    return disk_.Through<base::Status>(Call::kSync, path_, [&]() -> base::Status {
      if (disk_.lie_ == Lie::kSync) return {};
      return file_->Sync();
    });
  }
  base::Status Close() override { return file_->Close(); }
  // A memory with the file's content as it is now, since files in memory have none: for restores.
  int Descriptor() const override {
    if (!copy_.valid()) copy_ = CopyOut();
    return copy_.get();
  }

 private:
  base::UniqueFd CopyOut() const {
    const auto size = file_->Size();
    std::vector<std::byte> bytes(size ? *size : 0);
    base::UniqueFd memory(::memfd_create("sim-file", MFD_CLOEXEC));
    if (!size || !memory.valid() || !file_->ReadAt(0, bytes)) return {};
    const bool whole = ::pwrite(memory.get(), bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size());
    return whole ? std::move(memory) : base::UniqueFd();
  }

  Disk& disk_;
  const std::string path_;
  const std::unique_ptr<base::File> file_;
  mutable base::UniqueFd copy_;
};

void Disk::Touch(const std::string& path) { touched_.insert(base::ParentPath(path)); }

base::Result<std::unique_ptr<base::File>> Disk::Open(const std::string& path, const base::OpenOptions& options) {
  return Through<base::Result<std::unique_ptr<base::File>>>(
      Call::kOpen, path, [&]() -> base::Result<std::unique_ptr<base::File>> {
        BELAY_ASSIGN(auto file, files_.Open(path, options));
        return std::make_unique<GatedFile>(*this, path, std::move(file));
      });
}

base::Status Disk::Rename(const std::string& from, const std::string& to) {
  return Through<base::Status>(Call::kRename, to, [&] {
    Touch(from);
    Touch(to);
    base::Status renamed = files_.Rename(from, to);
    if (renamed && named_ && to.ends_with("/" + std::string(kManifestName))) named_(base::ParentPath(to));
    return renamed;
  });
}

base::Status Disk::Link(const std::string& existing, const std::string& added) {
  return Through<base::Status>(Call::kRename, added, [&] {
    Touch(added);
    return files_.Link(existing, added);
  });
}

base::Status Disk::LinkSymbolic(const std::string& target, const std::string& added) {
  return Through<base::Status>(Call::kRename, added, [&] {
    Touch(added);
    return files_.LinkSymbolic(target, added);
  });
}

base::Result<std::optional<std::string>> Disk::ReadLink(const std::string& path) {
  return Through<base::Result<std::optional<std::string>>>(Call::kLook, path, [&] { return files_.ReadLink(path); });
}

base::Status Disk::Remove(const std::string& path) {
  return Through<base::Status>(Call::kRemove, path, [&] {
    Touch(path);
    return files_.Remove(path);
  });
}

base::Status Disk::RemoveDirectory(const std::string& path) {
  return Through<base::Status>(Call::kRemove, path, [&] {
    touched_.insert(path);
    return files_.RemoveDirectory(path);
  });
}

base::Status Disk::MakeDirectory(const std::string& path, std::uint32_t permissions) {
  return Through<base::Status>(Call::kMakeFolder, path, [&] { return files_.MakeDirectory(path, permissions); });
}

base::Status Disk::SyncDirectory(const std::string& path) {
  return Through<base::Status>(Call::kSyncFolder, path, [&]() -> base::Status {
    if (lie_ == Lie::kFolderSync) return {};
    return files_.SyncDirectory(path);
  });
}

base::Result<std::vector<std::string>> Disk::List(const std::string& path) {
  return Through<base::Result<std::vector<std::string>>>(Call::kLook, path, [&] { return files_.List(path); });
}

base::Result<base::FileInfo> Disk::Stat(const std::string& path) {
  return Through<base::Result<base::FileInfo>>(Call::kLook, path, [&] { return files_.Stat(path); });
}

base::Result<base::SpaceInfo> Disk::Space(const std::string& path) {
  return Through<base::Result<base::SpaceInfo>>(Call::kLook, path, [&] { return files_.Space(path); });
}

base::Status GatedIndex::Write(const base::IndexBatch& batch) {
  return Pass<base::Status>(faults_, Call::kIndexWrite, "index", [&](Faults::Effect) { return index_.Write(batch); });
}

base::Result<std::optional<std::string>> GatedIndex::Get(std::string_view key) {
  return Pass<base::Result<std::optional<std::string>>>(faults_, Call::kIndexRead, "index",
                                                        [&](Faults::Effect) { return index_.Get(key); });
}

base::Result<std::vector<std::pair<std::string, std::string>>> GatedIndex::Scan(std::string_view prefix) {
  return Pass<base::Result<std::vector<std::pair<std::string, std::string>>>>(
      faults_, Call::kIndexRead, "index", [&](Faults::Effect) { return index_.Scan(prefix); });
}

}  // namespace belay::checkpoint::sim
