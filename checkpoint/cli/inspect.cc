#include "checkpoint/cli/inspect.h"

#include <algorithm>
#include <map>
#include <set>

#include "checkpoint/cli/inspect_files.h"

namespace belay::checkpoint::cli {
namespace {

using base::Code;
using base::Error;
using base::Result;

const ManifestFile* Listed(const std::vector<ManifestFile>& list, const std::string& name) {
  const auto found =
      std::find_if(list.begin(), list.end(), [&](const ManifestFile& file) { return file.name == name; });
  return found == list.end() ? nullptr : &*found;
}

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Folds what was found about a manifest into the whole; the files that it lists, as far as it can be read.
std::vector<ManifestFile> TakeManifest(InspectedManifest found, Inspection& whole) {
  whole.manifest = std::move(found.manifest);
  whole.manifest_health = found.view.health;
  return whole.manifest ? whole.manifest->files : std::move(found.files);
}

// A tensor can be read whole if its pieces agree, tile it, and none of them is damaged.
void SayWhatIsWhole(Inspection& whole) {
  std::map<std::string, std::vector<const TensorView*>> by_name;
  for (const FileView& file : whole.files) {
    for (const TensorView& tensor : file.tensors) by_name[tensor.entry.name].push_back(&tensor);
  }
  const bool is_one_file = !whole.is_folder;  // which has pieces only
  // Of a file on a drive that is not there nothing is known to be missing.
  const bool all_there = std::ranges::none_of(whole.files, [](const FileView& file) {
    return std::ranges::any_of(file.problems,
                               [](const Error& problem) { return problem.code == Code::kFolderMissing; });
  });
  for (const auto& [name, pieces] : by_name) {
    const ShardEntry& first = pieces.front()->entry;
    std::vector<Box> boxes;
    bool good = true;
    for (const TensorView* piece : pieces) {
      good = good && piece->bad.empty() && piece->entry.dtype == first.dtype &&
             piece->entry.global_shape == first.global_shape;
      boxes.push_back(piece->entry.box);
    }
    const base::Status covered = good && !is_one_file ? CheckCoverage(first.global_shape, boxes) : base::Status();
    (good && covered ? whole.readable : whole.lost).push_back(name);
    if (good && !covered && all_there && whole.manifest_health == Health::kGood) {
      whole.problems.push_back(
          {covered.error().code, base::Str("tensor ", name, ": ", covered.error().Text()), nullptr});
    }
  }
}

void InspectFolder(base::FileSystem& files, const std::vector<std::string>& names, int threads, Inspection& whole) {
  const std::string prefix = whole.path + "/";
  const auto has = [&](const std::string& name) { return std::binary_search(names.begin(), names.end(), name); };
  std::vector<ManifestFile> listed;
  if (has(std::string(kManifestName))) {
    InspectedManifest found = InspectManifest(files, prefix + std::string(kManifestName));
    for (const Error& problem : found.view.problems) whole.problems.push_back(problem);
    listed = TakeManifest(std::move(found), whole);
  } else {
    whole.problems.push_back(
        {Code::kIncomplete,
         base::Str(whole.path, " holds no ", kManifestName,
                   ": it was never committed, or has been removed; belay does not restore from it"),
         nullptr});
  }
  const auto place = ParseCheckpointDirectoryName(BaseName(whole.path));
  if (place && whole.manifest_health == Health::kGood &&
      (whole.manifest->step != place->step || whole.manifest->generation != place->generation)) {
    whole.problems.push_back(
        {Code::kCorrupt,
         base::Str("the manifest is of ", CheckpointDirectoryName(whole.manifest->step, whole.manifest->generation),
                   ", not of the folder it lies in"),
         nullptr});
  }
  // What the manifest lists, and without a whole one also what else looks like a checkpoint's.
  std::set<std::string> wanted;
  for (const ManifestFile& file : listed) wanted.insert(file.name);
  for (const std::string& name : names) {
    if (name == kManifestName || wanted.contains(name)) continue;
    const bool ours = KindByName(name) == "shard" || KindByName(name) == "records";
    if (ours && whole.manifest_health != Health::kGood)
      wanted.insert(name);
    else
      whole.others.push_back(name);
  }
  const Manifest* manifest = whole.manifest && whole.manifest_health == Health::kGood ? &*whole.manifest : nullptr;
  for (const std::string& name : wanted) {
    whole.files.push_back(InspectFile(files, prefix + name, {manifest, Listed(listed, name), threads}));
  }
}

}  // namespace

std::string_view HealthName(Health health) {
  switch (health) {
    case Health::kGood:
      return "good";
    case Health::kUnproven:
      return "unproven";
    case Health::kDamaged:
      return "damaged";
    case Health::kMissing:
      return "missing";
  }
  return "?";
}

Result<Inspection> Inspect(base::FileSystem& files, const std::string& path, int threads) {
  Inspection whole;
  whole.path = path;
  while (whole.path.size() > 1 && whole.path.ends_with('/')) whole.path.pop_back();
  BELAY_ASSIGN(const base::FileInfo info, files.Stat(whole.path));
  whole.is_folder = info.is_directory;
  if (whole.is_folder) {
    BELAY_ASSIGN(const auto names, files.List(whole.path));
    InspectFolder(files, names, threads, whole);
    SayWhatIsWhole(whole);
    return whole;
  }
  const std::string name = BaseName(whole.path);
  BELAY_ASSIGN(const std::string kind, KindOf(files, whole.path));
  if (kind == "manifest") {
    InspectedManifest found = InspectManifest(files, whole.path);
    whole.files.push_back(found.view);
    TakeManifest(std::move(found), whole);
    return whole;
  }
  // The manifest beside it proves the file, if it lists it.
  std::vector<ManifestFile> listed;
  const std::string manifest_path = base::ParentPath(whole.path) + "/" + std::string(kManifestName);
  if (base::Exists(files, manifest_path)) listed = TakeManifest(InspectManifest(files, manifest_path), whole);
  const Manifest* manifest = whole.manifest && whole.manifest_health == Health::kGood ? &*whole.manifest : nullptr;
  whole.files.push_back(InspectFile(files, whole.path, {manifest, Listed(listed, name), threads}));
  SayWhatIsWhole(whole);
  return whole;
}

std::vector<Error> AllProblems(const Inspection& inspection) {
  std::vector<Error> all = inspection.problems;
  for (const FileView& file : inspection.files) {
    all.insert(all.end(), file.problems.begin(), file.problems.end());
  }
  return all;
}

}  // namespace belay::checkpoint::cli
