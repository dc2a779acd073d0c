#include "launcher/run/run_folder.h"

#include <cstdio>
#include <utility>

#include "runtime/base/environment.h"
#include "runtime/base/host.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

using base::Code;
using base::Fail;
using base::Str;

constexpr std::string_view kSharedMemory = "/dev/shm";

bool IsRunFolderName(std::string_view name) {  // r- and 16 hex digits
  return name.size() == 18 && name.starts_with("r-") &&
         name.find_first_not_of("0123456789abcdef", 2) == std::string_view::npos;
}

std::string MemoryPrefix(const std::string& run_folder) {
  return Str("belay-", base::UserId(), "-", run_folder.substr(run_folder.rfind('/') + 1), "-a");
}

void RemoveFolder(base::FileSystem& files, const std::string& run_folder) {
  const std::string prefix = MemoryPrefix(run_folder);
  if (const auto names = files.List(std::string(kSharedMemory))) {
    for (const std::string& name : *names) {
      if (!name.starts_with(prefix)) continue;
      base::IgnoreError(base::RemoveTree(files, Str(kSharedMemory, "/", name)), "swept up by the next run");
    }
  }
  base::IgnoreError(base::RemoveTree(files, run_folder), "swept up by the next run");
}

void SweepDeadFolders(base::FileSystem& files, const std::string& runtime_folder, base::WallTime now) {
  const auto names = files.List(runtime_folder);
  if (!names) return;
  for (const std::string& name : *names) {
    if (!IsRunFolderName(name)) continue;
    const std::string folder = Str(runtime_folder, "/", name);
    if (!base::Exists(files, folder + "/lock")) {
      // Its owner may be about to make the lock, or was killed before it did.
      const auto info = files.Stat(folder);
      if (!info) continue;
      const auto age = now.time_since_epoch() - std::chrono::nanoseconds(info->modified_unix_ns);
      if (age < std::chrono::minutes(1)) continue;
    } else if (const auto lock = base::FileLock::TryAcquire(folder + "/lock"); !lock || !*lock) {
      continue;
    }
    RemoveFolder(files, folder);
  }
}

}  // namespace

base::Result<RunFolder> RunFolder::Make(base::FileSystem& files, const std::string& runtime_folder,
                                        base::WallTime now) {
  SweepDeadFolders(files, runtime_folder, now);
  char name[24];
  std::snprintf(name, sizeof name, "/r-%016llx", static_cast<unsigned long long>(base::RandomSeed()));
  const std::string path = runtime_folder + name;
  BELAY_TRY(files.MakeDirectory(path, 0700));
  BELAY_ASSIGN(auto lock, base::FileLock::TryAcquire(path + "/lock"));
  // Between the two calls another run may have taken the folder for a dead one.
  if (!lock || !base::Exists(files, path + "/lock")) {
    return Fail(Code::kBusy, "another belay swept ", path, " while it was made; run it again");
  }
  return RunFolder(files, path, std::move(*lock));
}

RunFolder::RunFolder(base::FileSystem& files, std::string path, base::FileLock lock)
    : files_(&files), path_(std::move(path)), lock_(std::move(lock)) {}

RunFolder::RunFolder(RunFolder&& other) noexcept
    : files_(other.files_), path_(std::exchange(other.path_, "")), lock_(std::move(other.lock_)) {}

RunFolder::~RunFolder() {
  if (!path_.empty()) RemoveFolder(*files_, path_);
}

std::string MemoryFolder(const std::string& run_folder, std::uint64_t attempt) {
  return Str(kSharedMemory, "/", MemoryPrefix(run_folder), attempt);
}

}  // namespace belay::launcher
