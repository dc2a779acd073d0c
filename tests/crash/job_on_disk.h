// A job of two ranks on a recorded disk, driven by the service's own code: what the daemon's threads do, in one.
//
// A JobOnDisk is one life of a daemon. Its history says which operations each thing asked of it (a save, a deletion)
// took, and what the job's state was before and after: the only two states that a crash inside may leave.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/commit/types.h"
#include "checkpoint/daemon/publisher.h"
#include "runtime/base/fault/faulty_file_system.h"
#include "runtime/base/sim/mem_file_system.h"
#include "runtime/base/sim/memory_index.h"
#include "runtime/base/sim/sim_clock.h"
#include "tests/crash/disk_log.h"
#include "tests/crash/disk_model.h"
#include "tests/crash/small_state.h"

namespace belay::crash {

// What must be the same after a crash: the generation, and which checkpoints there are, pinned or not.
struct JobState {
  std::uint64_t generation = 0;
  std::map<checkpoint::commit::CheckpointId, bool> checkpoints;
  friend bool operator==(const JobState&, const JobState&) = default;
};
std::ostream& operator<<(std::ostream& out, const JobState& state);

struct Stage {
  std::string name;
  std::size_t end = 0;  // operations [end of the stage before, end) of the log
  JobState before, after;
};

// In one data folder, or rank 1's shards in another.
enum class Drives : std::uint8_t { kOne, kTwo };

struct History {
  Drives drives = Drives::kOne;
  DiskLog log;
  std::vector<Stage> stages;
};

enum class RankOrder : std::uint8_t { kOneAfterTheOther, kInTurns };
enum class State : std::uint8_t { kPlain, kWithFrozenPart };

class JobOnDisk {
 public:
  static const checkpoint::commit::JobKey kJob;
  static constexpr char kDataDir[] = "/data";
  static constexpr char kOtherDir[] = "/nvme1";
  static constexpr std::uint32_t kOwner = 1000;
  static checkpoint::index::Folders FoldersOn(Drives drives);

  // A daemon on an empty disk.
  explicit JobOnDisk(Drives drives = Drives::kOne, State of = State::kPlain);
  // A daemon that starts after another died at operation `end` of its history; the machine went on.
  JobOnDisk(const History& history, std::size_t end);
  // One that starts on what a power cut left.
  explicit JobOnDisk(const DiskImage& image, Drives drives = Drives::kOne, State of = State::kPlain);

  // Rules for a disk that lies or fails, between the service and the recorder.
  base::FaultyFileSystem& faults() { return faulty_; }
  base::FileSystem& files() { return faulty_; }

  // Each is a stage. An error that must not be fails the running test. A run's first save writes the frozen part, the
  // next ones link it from the newest checkpoint, if that has it.
  void Start();     // as belayd does before it serves; the state is then what it found
  void BeginRun();  // the next generation
  void Save(std::int64_t step, RankOrder order = RankOrder::kOneAfterTheOther);
  // Writes all of rank 0 and, with `also_rank_1`, of rank 1, then gives up, as when another rank failed.
  void SaveAndDiscard(std::int64_t step, bool also_rank_1);
  // A save whose manifest has its name when the disk fails: discarded.
  void SaveThatFailsAtTheEnd(std::int64_t step);
  // Writes rank 0 and leaves it, as a run that dies.
  void SaveHalf(std::int64_t step);
  void Delete(std::int64_t step);
  void Pin(std::int64_t step, bool pinned);
  void Reindex();

  const JobState& state() const { return state_; }
  const History& history() const { return history_; }

 private:
  using Written = std::vector<checkpoint::commit::WriteFinished>;
  void EndStage(std::string name, JobState after);
  checkpoint::commit::CheckpointId IdOf(std::int64_t step) const;
  Written Write(const checkpoint::commit::CheckpointId& id, int ranks, RankOrder order);
  checkpoint::commit::ManifestFinished Publish(const checkpoint::commit::CheckpointId& id, const Written& written);
  void Load(const DiskImage& image);

  History history_;
  base::MemFileSystem memory_;
  base::MemoryIndex map_;
  base::SimClock clock_;
  RecordingFileSystem recorder_{memory_, history_.log};
  base::FaultyFileSystem faulty_{recorder_};
  RecordingIndex index_{map_, history_.log};
  checkpoint::index::Folders folders_;
  checkpoint::Publisher publisher_{faulty_, clock_, folders_, index_, kOwner};
  const bool has_frozen_;
  std::optional<Frozen> frozen_;  // what this run's staging memory has of the frozen part
  JobState state_;
};

// Starts a daemon on the image, with its index and with a lost one, and looks: one of the `allowed` states, every
// checkpoint restoring bit for bit, nothing left over once the next run has begun, and that run able to save. Empty if
// all is well.
class ImageChecker {
 public:
  explicit ImageChecker(Drives drives = Drives::kOne, State of = State::kPlain)
      : drives_(drives), folders_(JobOnDisk::FoldersOn(drives)), of_(of) {}
  std::string Check(const DiskImage& image, const std::vector<JobState>& allowed);

 private:
  std::string CheckStart(const DiskImage& image, const std::vector<JobState>& allowed);
  std::string CheckRestore(base::FileSystem& files, const DiskImage& image, const checkpoint::commit::CheckpointId& id);
  std::string Stray(base::FileSystem& files, const JobState& state) const;
  std::string StrayInOther(base::FileSystem& files, const JobState& state, const std::string& other) const;

  const Drives drives_;
  const checkpoint::index::Folders folders_;
  const State of_;
  std::map<std::string, std::string> restored_;  // verdicts by the folder's content: most images share most of it
};

}  // namespace belay::crash
