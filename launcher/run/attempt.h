// One attempt of a run: its folders, its mpirun, its mark, and their end. Methods run on the loop thread unless they
// say otherwise.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "launcher/run/mpirun_command.h"
#include "launcher/run/run_directory.h"
#include "launcher/run/run_options.h"
#include "launcher/supervise/supervisor.h"
#include "runtime/base/file_system.h"
#include "runtime/base/process_spawner.h"

namespace belay::launcher {

class Attempt {
 public:
  struct Setup {
    base::FileSystem& files;
    base::ProcessSpawner& spawner;
    const RunOptions& options;
    std::string control_socket;
    std::string run_folder;    // private, short
    std::uint64_t number = 1;  // of the attempt in the run
    std::string run_directory;
  };
  explicit Attempt(Setup setup);
  ~Attempt();  // Clean() must have been called if Start() was

  // Makes the folders and starts mpirun; `ended` is called from another thread once it has ended.
  base::Status Start(std::function<void(event::MpirunExited)> ended);
  // Kills mpirun and everything with the mark, removes the scratch folders. Any thread; blocks up to a few seconds.
  event::CleanedUp Clean();

  const std::string& mark() const { return names_.mark; }
  const AttemptFolder& folder() const { return folder_; }
  // The last lines mpirun itself wrote.
  std::vector<std::string> MpirunWords() const;

 private:
  Setup setup_;
  AttemptFolder folder_;
  AttemptNames names_;
  std::int32_t pid_ = 0;
  std::atomic<bool> ended_ = false;
  std::jthread waiter_;
};

// belay-rank: beside this program, or below ../libexec/belay of an installed one. kLaunchFailed if it is nowhere.
base::Result<std::string> FindShim(base::FileSystem& files);

}  // namespace belay::launcher
