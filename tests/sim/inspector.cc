#include "tests/sim/inspector.h"

#include <set>
#include <vector>

#include "checkpoint/client/restorer.h"
#include "tests/sim/contents.h"

namespace belay::checkpoint::sim {

bool IsWrongBytes(const std::string& compared) {
  return compared.find("loads without an error") != std::string::npos ||
         compared.find("the records of another") != std::string::npos;
}

std::optional<Inspector::Place> Inspector::PlaceOf(const std::string& directory) const {
  std::string prefix = folders_.data_dir() + "/";
  for (const std::string& also : also_) {
    if (directory.starts_with(also + "/")) prefix = also + "/";
  }
  if (!directory.starts_with(prefix)) return std::nullopt;
  const std::string rest = directory.substr(prefix.size());
  const std::size_t first = rest.find('/');
  const std::size_t second = first == std::string::npos ? first : rest.find('/', first + 1);
  if (second == std::string::npos) return std::nullopt;
  const auto id = ParseCheckpointDirectoryName(rest.substr(second + 1));
  if (!id) return std::nullopt;
  return Place{{rest.substr(0, first), rest.substr(first + 1, second - first - 1)}, {id->generation, id->step}};
}

void Inspector::Look(const std::string& touched) {
  const auto place = PlaceOf(touched);
  if (!place || drive_away) return;
  const auto& [job, id] = *place;
  const std::string directory = folders_.Checkpoint(job, id);
  Fact& fact = model_.Of(job, id);
  if (!base::Exists(files_, directory + "/" + std::string(kManifestName))) {
    if (!fact.told_committed) return;
    if (!model_.MayBeGone(job, id)) {
      violated_(base::Str(id, " of ", job, " was reported committed and is gone from the disk"));
    } else if (!std::exchange(fact.gone, true)) {
      coverage_.Count(fact.remove_asked ? Kind::kUserRemoved : Kind::kRetentionRemoved);
    }
    return;
  }
  fact.named = true;
  if (!fact.Sealed()) violated_(base::Str(id, " of ", job, " is visible, not all ranks sealed it"));
  const auto restorer = Restorer::OpenDirectory(files_, directory);
  const std::string wrong = restorer ? Compare(**restorer, job, id) : restorer.error().Text();
  if (!wrong.empty() && (!fact.damaged || IsWrongBytes(wrong))) {
    violated_(base::Str(id, " of ", job, " is visible and does not restore: ", wrong));
  }
}

std::vector<std::string> Inspector::Directories() {
  std::vector<std::string> all;
  const auto below = [&](const std::string& folder) {
    std::vector<std::string> paths;
    if (const auto names = files_.List(folder)) {
      for (const std::string& name : *names) paths.push_back(folder + "/" + name);
    }
    return paths;
  };
  for (const std::string& project : below(folders_.data_dir())) {
    for (const std::string& job : below(project)) {
      for (const std::string& path : below(job)) {
        if (PlaceOf(path)) all.push_back(path);
      }
    }
  }
  return all;
}

void Inspector::LookEverywhere() {
  std::set<std::string> all;
  for (const std::string& directory : Directories()) all.insert(directory);
  for (const auto& [job, facts] : model_.jobs()) {
    for (const auto& [id, fact] : facts.checkpoints) {
      if (fact.told_committed) all.insert(folders_.Checkpoint(job, id));
    }
  }
  for (const std::string& directory : all) Look(directory);
}

void Inspector::LookForLeftovers(bool failed_may_stay) {
  for (const auto& [job, facts] : model_.jobs()) {
    const auto names = files_.List(folders_.Job(job));
    if (!names) continue;
    for (const std::string& name : *names) {
      const std::string path = folders_.Job(job) + "/" + name;
      if (const auto place = PlaceOf(path))
        LookForLeftoversIn(path, *place, failed_may_stay);
      else if (name != ".generation")
        violated_(base::Str(path, " belongs to nobody"));
    }
  }
  for (const std::string& also : also_) LookForLeftoversBeside(also);
}

void Inspector::LookForLeftoversBeside(const std::string& also) {
  for (const auto& [job, facts] : model_.jobs()) {
    const std::string folder = base::Str(also, "/", job.project, "/", job.job);
    for (const std::string& name : files_.List(folder).value_or(std::vector<std::string>())) {
      const auto place = PlaceOf(folder + "/" + name);
      if (place && model_.Of(job, place->second).damaged) continue;
      for (const std::string& file : files_.List(folder + "/" + name).value_or(std::vector<std::string>())) {
        const std::string path = folder + "/" + name + "/" + file;
        const auto link = place ? files_.ReadLink(folders_.Checkpoint(job, place->second) + "/" + file)
                                : base::Result<std::optional<std::string>>(std::optional<std::string>());
        if (!link || *link != path) violated_(base::Str(path, " belongs to nobody"));
      }
    }
  }
}

void Inspector::LookForLeftoversIn(const std::string& directory, const Place& place, bool failed_may_stay) {
  const auto& [job, id] = place;
  const Fact& fact = model_.Of(job, id);
  if (fact.told_failed && !fact.told_committed && !failed_may_stay) {
    violated_(base::Str(directory, " is there; it was reported failed"));
  }
  std::set<std::string> expected = {std::string(kManifestName), std::string(kPinnedName)};
  const auto text = base::ReadWholeFile(files_, directory + "/" + std::string(kManifestName), kManifestBytesMax);
  const auto manifest = text ? DecodeManifest(*text) : base::Result<Manifest>(tl::unexpected(text.error()));
  if (!manifest) {
    if (!fact.damaged) violated_(base::Str(directory, " is no checkpoint and still there"));
    return;
  }
  for (const ManifestFile& file : manifest->files) expected.insert(file.name);
  const auto names = files_.List(directory);
  if (!names) return;
  for (const std::string& name : *names) {
    if (!expected.contains(name)) violated_(base::Str(directory, "/", name, " belongs to nobody"));
  }
  const bool pinned = base::Exists(files_, directory + "/" + std::string(kPinnedName));
  if (pinned ? fact.pin == Fact::Pin::kNo : fact.pin == Fact::Pin::kYes) {
    violated_(base::Str(directory, pinned ? " is pinned, nobody asked for it" : " has lost its pin"));
  }
}

bool Inspector::Rot(base::Rng& rng) {
  std::vector<std::string> candidates;
  for (const std::string& directory : Directories()) {
    const auto names = files_.List(directory);
    if (!names || !base::Exists(files_, directory + "/" + std::string(kManifestName))) continue;
    for (const std::string& name : *names) {
      if (name != kPinnedName) candidates.push_back(directory + "/" + name);
    }
  }
  if (candidates.empty()) return false;
  const std::string path = candidates[rng.Below(candidates.size())];
  const auto info = files_.Stat(path);
  if (!info || info->size_bytes == 0) return false;
  auto file = files_.Open(path, {.mode = base::OpenOptions::Mode::kReadWrite});
  if (!file) return false;  // read-only now
  std::byte byte{};
  const std::uint64_t at = rng.Below(info->size_bytes);
  if (!(*file)->ReadAt(at, {&byte, 1})) return false;
  byte ^= static_cast<std::byte>(1U << rng.Below(8));
  if (!(*file)->WriteAt(at, {&byte, 1}) || !(*file)->Sync()) return false;
  // Whoever has a name of the same file has the damage.
  for (const std::string& candidate : candidates) {
    const auto same = files_.Stat(candidate);
    const auto place = PlaceOf(base::ParentPath(candidate));
    if (same && place && same->inode == info->inode) model_.Of(place->first, place->second).damaged = true;
  }
  return true;
}

}  // namespace belay::checkpoint::sim
