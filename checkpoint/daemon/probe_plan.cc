#include "checkpoint/daemon/probe_plan.h"

#include <algorithm>
#include <utility>

#include "checkpoint/daemon/recurrence.h"
#include "checkpoint/daemon/scrub_plan.h"
#include "checkpoint/spread/data_folders.h"

namespace belay::checkpoint {
namespace {

constexpr base::Duration kIdleMax = std::chrono::hours(1);

std::optional<index::DeviceRecord> StoredRecord(base::Index& index, const std::string& key) {
  const auto stored = index.Get(key);
  if (!stored || !*stored) return std::nullopt;
  auto record = index::DecodeDeviceRecord(**stored);
  return record ? std::optional(*std::move(record)) : std::nullopt;
}

}  // namespace

std::vector<ProbedDevice> FindDevices(base::FileSystem& files, const index::Folders& folders, base::Index& index) {
  std::vector<std::string> paths = {folders.data_dir()};
  for (const spread::OtherFolder& other : folders.others()) {
    if (!other.retired && spread::CheckHere(files, folders.home_id(), other)) paths.push_back(other.path);
  }
  std::vector<ProbedDevice> devices;
  for (const std::string& path : paths) {
    const auto info = files.Stat(path);
    const auto space = files.Space(path);
    if (!info || !space) continue;  // it will be noticed by whoever saves
    const auto same = std::ranges::find(devices, info->device, &ProbedDevice::device);
    if (same != devices.end()) {
      same->folders.push_back(path);
      continue;
    }
    const std::string key = index::DeviceRecordKey(space->file_system_id, path);
    devices.push_back({info->device, {path}, key, StoredRecord(index, key)});
  }
  return devices;
}

ProbePlan::ProbePlan(const ProbeOptions& options, std::vector<ProbedDevice> devices, base::SteadyTime now)
    : options_(options),
      devices_(std::move(devices)),
      tried_unix_(devices_.size()),
      idle_(options.idle),
      busy_until_(now) {}

bool ProbePlan::IsDue(std::size_t index, base::WallTime wall) const {
  const auto& record = devices_[index].record;
  return IsDueAgain(std::max(record ? record->measured_unix : 0, tried_unix_[index]), options_.every, wall);
}

std::optional<std::string> ProbePlan::Next(const commit::State& state, base::SteadyTime now, base::WallTime wall) {
  const bool was_paused = std::exchange(paused_, state.stopping || ScrubMustPause(state));
  if (paused_ || was_paused) busy_until_ = now;
  if (!options_.enabled || running_ || paused_ || now < busy_until_ + idle_) return std::nullopt;
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    if (!IsDue(i, wall)) continue;
    running_ = i;
    return devices_[i].folders.front();
  }
  return std::nullopt;
}

const ProbedDevice* ProbePlan::Finished(ProbeResult result, const std::string& version, base::WallTime wall) {
  const auto index = std::exchange(running_, std::nullopt);
  if (!index) return nullptr;
  if (result.end == ProbeResult::End::kAbandoned) {
    idle_ = std::min(2 * idle_, kIdleMax);
    return nullptr;
  }
  tried_unix_[*index] = UnixSeconds(wall);
  if (result.end != ProbeResult::End::kMeasured) return nullptr;
  ProbedDevice& device = devices_[*index];
  device.record = std::move(result.record);
  device.record->measured_unix = tried_unix_[*index];
  device.record->version = version;
  return &device;
}

std::optional<base::SteadyTime> ProbePlan::Wake(base::SteadyTime now, base::WallTime wall) const {
  // While somebody saves or restores, what ends it is an event; so is the end of a measurement.
  if (!options_.enabled || running_ || paused_ || devices_.empty()) return std::nullopt;
  for (std::size_t i = 0; i < devices_.size(); ++i) {
    if (IsDue(i, wall)) return std::max(now, busy_until_ + idle_);
  }
  return now + kLookAgain;
}

}  // namespace belay::checkpoint
