// A run's own scratch folder: r-<16 hex> in the private runtime folder, with the control socket, mpirun's session files
// and a lock that is held while belay lives. A folder in /dev/shm of the same name holds the ranks' shared memory
// segments.
//
// Gone with the object. What a run left that was killed before anybody could clear up is swept by the next one: its
// lock is free.
#pragma once

#include <cstdint>
#include <string>

#include "checkpoint/client/locate.h"
#include "runtime/base/clock.h"
#include "runtime/base/file_system.h"
#include "runtime/base/result.h"

namespace belay::launcher {

using checkpoint::PrivateRuntimeFolder;  // where run folders lie

class RunFolder {
 public:
  // Sweeps what dead runs left in `runtime_folder`, then makes a new folder there.
  static base::Result<RunFolder> Make(base::FileSystem& files, const std::string& runtime_folder, base::WallTime now);
  ~RunFolder();
  RunFolder(RunFolder&& other) noexcept;
  RunFolder& operator=(RunFolder&&) = delete;

  const std::string& path() const { return path_; }
  std::string ControlSocket() const { return path_ + "/control.sock"; }

 private:
  RunFolder(base::FileSystem& files, std::string path, base::FileLock lock);

  base::FileSystem* files_;
  std::string path_;  // empty: moved from
  base::FileLock lock_;
};

// Where the ranks of one attempt put their shared memory segments.
std::string MemoryFolder(const std::string& run_folder, std::uint64_t attempt);

}  // namespace belay::launcher
