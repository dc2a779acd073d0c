// Which device is measured next, and when. Pure: the service asks, a worker measures, the service tells how it went.
//
// A device is measured if nothing is known of it, or nothing newer than 30 days, once nobody has saved or restored for
// some seconds. A measurement that was abandoned is begun again after twice as long an idle time, up to an hour, so
// that a job that saves often is not measured beside again and again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "checkpoint/commit/state.h"
#include "checkpoint/daemon/device_probe.h"
#include "checkpoint/index/folders.h"
#include "runtime/base/clock.h"
#include "runtime/base/index.h"

namespace belay::checkpoint {

struct ProbeOptions {
  bool enabled = true;  // else every device has the default shape
  base::Duration idle = std::chrono::seconds(10);
  base::Duration every = std::chrono::hours(30 * 24);
};

struct ProbedDevice {
  std::uint64_t device = 0;
  std::vector<std::string> folders;  // data folders on it; the first is measured
  std::string key;                   // of its record
  std::optional<index::DeviceRecord> record;
};
// The devices of the data folders that are written to, with what the index knows of them.
std::vector<ProbedDevice> FindDevices(base::FileSystem& files, const index::Folders& folders, base::Index& index);

class ProbePlan {
 public:
  ProbePlan(const ProbeOptions& options, std::vector<ProbedDevice> devices, base::SteadyTime now);

  // The folder to measure now; none: nothing is due, the node is not idle, or a measurement is under way.
  std::optional<std::string> Next(const commit::State& state, base::SteadyTime now, base::WallTime wall);
  // Takes in how it went; the device, if there is a new record of it.
  const ProbedDevice* Finished(ProbeResult result, const std::string& version, base::WallTime wall);
  // When to ask again at the latest, if nothing else happens.
  std::optional<base::SteadyTime> Wake(base::SteadyTime now, base::WallTime wall) const;

  const std::vector<ProbedDevice>& devices() const { return devices_; }

 private:
  bool IsDue(std::size_t index, base::WallTime wall) const;

  const ProbeOptions options_;
  std::vector<ProbedDevice> devices_;
  std::vector<std::int64_t> tried_unix_;  // for each; 0: not by this daemon
  std::optional<std::size_t> running_;
  base::Duration idle_;
  base::SteadyTime busy_until_;
  bool paused_ = false;
};

}  // namespace belay::checkpoint
