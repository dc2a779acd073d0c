#include "checkpoint/daemon/restore_files.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "checkpoint/format/manifest.h"
#include "checkpoint/index/folders.h"
#include "checkpoint/spread/reach.h"
#include "runtime/base/shared_memory.h"

namespace belay::checkpoint {

using base::Code;

namespace {

void AddFile(OpenedFiles& opened, const std::string& name, std::uint64_t offset, std::uint64_t bytes,
             base::UniqueFd descriptor) {
  wire::OpenedFile& file = *opened.response.mutable_opened_checkpoint()->add_files();
  file.set_name(name);
  file.set_offset(offset);
  file.set_bytes(bytes);
  opened.descriptors.push_back(std::move(descriptor));
}

base::Result<base::UniqueFd> MemoryOf(const std::string& name, const std::string& content) {
  const std::uint64_t bytes = std::max<std::uint64_t>(content.size(), 1);
  BELAY_ASSIGN(base::UniqueFd fd, base::CreateSharedMemory({.name = "belay-records:" + name, .size_bytes = bytes}));
  BELAY_ASSIGN(base::Mapping mapping, base::MapSharedMemory(fd.get(), bytes, base::MapAccess::kReadWrite));
  std::copy_n(reinterpret_cast<const std::byte*>(content.data()), content.size(), mapping.bytes().begin());
  return base::ReopenReadOnly(fd.get());
}

}  // namespace

base::Result<OpenedFiles> OpenDiskFiles(base::FileSystem& files, const std::string& directory,
                                        const std::vector<std::string>& names) {
  OpenedFiles opened;
  BELAY_ASSIGN(std::string text,
               base::ReadWholeFile(files, directory + "/" + std::string(kManifestName), index::kManifestBytesMax));
  BELAY_ASSIGN(const Manifest manifest, DecodeManifest(text));
  opened.response.mutable_opened_checkpoint()->set_manifest(std::move(text));
  for (const std::string& name : names) {
    const bool listed = std::any_of(manifest.files.begin(), manifest.files.end(),
                                    [&](const ManifestFile& file) { return file.name == name; });
    if (!listed) {
      return base::Fail(Code::kNotFound, "the manifest in ", directory, " lists no file '", name.substr(0, 200), "'");
    }
    const auto file = files.Open(directory + "/" + name, {});
    if (!file) return tl::unexpected(spread::Explained(files, directory + "/" + name, file.error()));
    BELAY_ASSIGN(const std::uint64_t bytes, (*file)->Size());
    base::UniqueFd copy(::fcntl((*file)->Descriptor(), F_DUPFD_CLOEXEC, 0));
    if (!copy.valid()) return base::FailErrno(errno, "cannot hand out " + directory + "/" + name);
    AddFile(opened, name, 0, bytes, std::move(copy));
  }
  return opened;
}

base::Result<OpenedFiles> OpenMemoryFiles(
    const commit::OpenFromMemory& order,
    const std::function<std::shared_ptr<StagingMemory>(const commit::MemoryFile&)>& find_memory) {
  OpenedFiles opened;
  opened.response.mutable_opened_checkpoint()->set_manifest(order.manifest);
  for (const commit::MemoryFile& file : order.files) {
    if (file.records != nullptr) {
      BELAY_ASSIGN(base::UniqueFd records, MemoryOf(file.name, *file.records));
      AddFile(opened, file.name, 0, file.bytes, std::move(records));
      continue;
    }
    const auto memory = find_memory(file);
    if (memory == nullptr) return base::Fail(Code::kNotFound, "the snapshot is not in memory any more");
    BELAY_ASSIGN(base::UniqueFd shard, memory->ReadOnlyDescriptor());
    AddFile(opened, file.name, file.offset, file.bytes, std::move(shard));
  }
  return opened;
}

}  // namespace belay::checkpoint
