// What befalls a world, and when: chosen by the seed. Each seed has a taste of its own: some kinds of fault often,
// others never, since a fault that comes all the time hides what another would find.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "tests/sim/launcher.h"
#include "tests/sim/world.h"

namespace belay::checkpoint::sim {

class Chaos {
 public:
  Chaos(World& world, const std::vector<std::shared_ptr<Launcher>>& launchers);
  void Begin() { Next(); }
  // No fault from now on; what was broken is mended.
  void End();
  // Some kind of fault of this seed can make the disk answer errors.
  bool disturbs_disk() const { return disturbs_disk_; }

 private:
  void Next();
  void Strike();
  void TakeDrive();
  void ReturnDrive();
  void ReturnDriveLater();
  // Sets things so, and back after a while.
  void ForAWhile(const std::function<void()>& begin, std::function<void()> end);

  World& world_;
  const std::vector<std::shared_ptr<Launcher>>& launchers_;
  std::vector<std::function<void()>> strikes_;  // those this seed likes
  bool ended_ = false;
  bool disturbs_disk_ = false;
  const std::shared_ptr<bool> there_ = std::make_shared<bool>(true);
};

}  // namespace belay::checkpoint::sim
