#include "tests/sim/chaos.h"

#include <limits>
#include <utility>

namespace belay::checkpoint::sim {

using std::chrono::milliseconds;

namespace {
constexpr base::Duration kBetween = milliseconds(160);
constexpr base::Duration kWhile = milliseconds(250);
constexpr std::uint64_t kCallsToDeath = 120;
constexpr std::uint64_t kAllRoom = std::numeric_limits<std::uint64_t>::max() / 2;
}  // namespace

Chaos::Chaos(World& world, const std::vector<std::shared_ptr<Launcher>>& launchers)
    : world_(world), launchers_(launchers) {
  base::Rng& rng = world_.scheduler.rng();
  const auto likes = [&](double chance, std::function<void()> strike) {
    if (rng.Uniform() < chance) strikes_.push_back(std::move(strike));
  };
  const auto some_rank = [this, &rng] { return launchers_[rng.Below(launchers_.size())]->SomeTrainer(rng); };
  likes(0.6, [&] { world_.machine->DieSoon(1 + rng.Below(kCallsToDeath), false); });
  likes(0.6, [&] { world_.machine->DieSoon(1 + rng.Below(kCallsToDeath), true); });
  likes(0.3, [&] { world_.machine->Stop(); });
  likes(0.3, [&] { world_.machine->LoseIndex(); });
  likes(0.2, [&] { world_.machine->DamageIndex(); });
  likes(0.5, [this, some_rank] {
    const auto rank = some_rank();
    if (rank == nullptr) return;
    world_.Count(rank->copying() ? Kind::kTrainerDiedCopying : Kind::kTrainerDied);
    rank->Kill();
  });
  likes(0.3, [&] {
    if (world_.network.CutOne()) world_.Count(Kind::kLineCut);
  });
  likes(0.4, [this] {
    disturbs_disk_ = true;
    ForAWhile([&] { world_.faults.disturbance.disk_error = 0.02; }, [&] { world_.faults.disturbance.disk_error = 0; });
  });
  likes(0.3, [this] {
    disturbs_disk_ = true;
    ForAWhile([&] { world_.faults.disturbance.point_error = 0.1; }, [&] { world_.faults.disturbance.point_error = 0; });
  });
  likes(0.3, [this] {
    ForAWhile([&] { world_.faults.disturbance.index_error = 0.2; }, [&] { world_.faults.disturbance.index_error = 0; });
  });
  likes(0.3, [this] {
    ForAWhile([&] { world_.faults.disturbance.slow = 0.02; }, [&] { world_.faults.disturbance.slow = 0; });
  });
  likes(0.3, [this, &rng] {
    disturbs_disk_ = true;
    world_.Count(Kind::kDiskFull);
    const auto space = world_.files.Space("/");
    const std::uint64_t used = space ? space->total_bytes - space->available_bytes : 0;
    ForAWhile([&] { world_.files.SetCapacity(used + rng.Below(100'000)); },
              [this] { world_.files.SetCapacity(kAllRoom); });
  });
  likes(0.2, [this] {
    disturbs_disk_ = true;
    world_.Count(Kind::kReadOnly);
    ForAWhile([&] { world_.files.SetReadOnly(true); }, [this] { world_.files.SetReadOnly(false); });
  });
  likes(0.3, [this] { TakeDrive(); });
  likes(0.2, [&] {
    world_.Count(Kind::kWallJump);
    world_.clock.StepWall(std::chrono::seconds(static_cast<std::int64_t>(rng.Below(200'000)) - 100'000));
  });
  likes(0.2, [&] {
    if (world_.inspector.Rot(rng)) world_.Count(Kind::kBitRot);
  });
  if (rng.Below(3) == 0) world_.network.trouble.cut = 0.004;
  if (rng.Below(2) == 0) world_.network.trouble.repeat = 0.1;
  if (rng.Below(2) == 0) world_.network.trouble.late = 0.03;
}

void Chaos::Next() {
  world_.scheduler.After(world_.scheduler.Some(kBetween), [this, there = there_] {
    if (!*there || ended_) return;
    Strike();
    Next();
  });
}

void Chaos::Strike() {
  if (strikes_.empty()) return;
  strikes_[world_.scheduler.rng().Below(strikes_.size())]();
}

// As an unmount: the mount point stays, and is empty. What happens to drives does not depend on power.
void Chaos::TakeDrive() {
  // A daemon that serves has its drives on record, durably. Not in the midst of a write: in the moment between looking
  // whether the drive is there and making a folder on it, the folder may get below the mount point.
  if (world_.scheduler.depth() > 1) return;
  if (world_.also.empty() || world_.inspector.drive_away || !world_.machine->up()) return;
  const std::string& drive = world_.also.front();
  if (!world_.files.Rename(drive, drive + ".away")) return;  // read-only now
  world_.Trace(drive + " is not there any more");
  world_.Count(Kind::kDriveAway);
  base::IgnoreError(world_.files.MakeDirectory(drive, 0755), "the name is free");
  base::IgnoreError(world_.files.SyncDirectory("/"), "in memory it cannot fail");
  world_.inspector.drive_away = true;
  ++world_.drive_turns;
  ReturnDriveLater();
}

void Chaos::ReturnDriveLater() {
  world_.scheduler.After(world_.scheduler.Some(kWhile), [this, there = there_] {
    if (*there) ReturnDrive();
  });
}

void Chaos::ReturnDrive() {
  const std::string& drive = world_.also.front();
  if (const auto names = world_.files.List(drive); names && !names->empty()) {
    world_.Violated(drive + " is not mounted, and something was written in its place: " + names->front());
  }
  if (!world_.files.RemoveDirectory(drive)) return ReturnDriveLater();  // read-only now
  base::IgnoreError(world_.files.Rename(drive + ".away", drive), "it is there, and the name is free");
  base::IgnoreError(world_.files.SyncDirectory("/"), "in memory it cannot fail");
  world_.Trace(drive + " is there again");
  world_.inspector.drive_away = false;
  ++world_.drive_turns;
  if (world_.scheduler.depth() <= 1) world_.inspector.LookEverywhere();  // not in the midst of something
}

void Chaos::ForAWhile(const std::function<void()>& begin, std::function<void()> end) {
  begin();
  world_.scheduler.After(world_.scheduler.Some(kWhile), [there = there_, mend = std::move(end)] {
    if (*there) mend();
  });
}

void Chaos::End() {
  ended_ = true;
  *there_ = false;
  world_.faults.disturbance = {};
  world_.faults.Spare();
  world_.network.trouble = {};
  world_.files.SetCapacity(kAllRoom);
  world_.files.SetReadOnly(false);
  if (world_.inspector.drive_away) ReturnDrive();
}

}  // namespace belay::checkpoint::sim
