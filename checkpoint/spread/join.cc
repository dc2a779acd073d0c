#include "checkpoint/spread/join.h"

#include <algorithm>
#include <utility>

#include "runtime/base/fault_points.h"
#include "runtime/base/log.h"

namespace belay::checkpoint::spread {

using base::Code;
using base::Fail;
using base::Status;

namespace {

bool LiesWithin(const std::string& path, const std::string& folder) {
  return folder == "/" || (path + "/").starts_with(folder + "/");
}

// Does a belayd keep its own things there? What a start that was cut off has made of the folder's record is none.
base::Result<bool> IsAHome(base::FileSystem& files, const std::string& path) {
  const auto names = files.List(path + "/.belayd");
  if (!names && names.error().code == Code::kNotFound) return false;
  if (!names) return tl::unexpected(names.error());
  return std::ranges::any_of(*names, [](const std::string& name) { return !name.starts_with("folder.json"); });
}

auto Find(std::vector<OtherFolder>& folders, const std::string& path) {
  return std::ranges::find(folders, path, &OtherFolder::path);
}

// One within another would take its neighbour's folders for projects of its own.
Status CheckApart(const std::string& home, const DataFolders& folders, const std::string& added) {
  std::vector<std::string> all = {home};
  for (const OtherFolder& folder : folders.others) all.push_back(folder.path);
  for (const std::string& folder : all) {
    if (!LiesWithin(added, folder) && !LiesWithin(folder, added)) continue;
    return Fail(Code::kInvalidArgument, "the data folders ", folder, " and ", added,
                added == folder ? " are the same" : " lie one within the other",
                ": give each drive a folder of its own");
  }
  return {};
}

Status Record(base::FileSystem& files, const std::string& home, const DataFolders& folders) {
  return base::WriteFileDurably(files, DataFoldersFile(home), EncodeDataFolders(folders));
}

// Home's id is on record before it is in the folder, and the folder before it is in home: wherever this is cut off, the
// next start finds a folder that says whose it is, and takes it in.
Status TakeIn(base::FileSystem& files, const std::string& home, DataFolders& folders, const std::string& path,
              const std::function<std::string()>& fresh_id) {
  BELAY_TRY(CheckApart(home, folders, path));
  if (folders.id.empty()) {
    folders.id = fresh_id();
    BELAY_TRY(Record(files, home, folders));
  }
  auto membership = ReadMembership(files, path);
  if (membership && membership->home != folders.id) {
    return Fail(Code::kInvalidArgument, path, " is a data folder of ", membership->home_path, " and cannot be one of ",
                home, " too; if it is to change hands, empty it first");
  }
  if (!membership && membership.error().code != Code::kNotFound) return tl::unexpected(membership.error());
  if (!membership) {
    BELAY_ASSIGN(const bool is_home, IsAHome(files, path));
    if (is_home) {
      return Fail(Code::kInvalidArgument, path, " is a data directory itself (it has a .belayd): name another folder");
    }
    membership = Membership{fresh_id(), folders.id, home};
    if (auto made = base::MakeDirectories(files, path + "/.belayd"); !made) {
      return base::Wrap(made.error(), "cannot use the data folder ", path);
    }
    BELAY_TRY(base::WriteFileDurably(files, MembershipFile(path), EncodeMembership(*membership)));
  }
  // What an earlier start had made and not synced must not go once home relies on it.
  for (const std::string& made : {path + "/.belayd", path}) BELAY_TRY(files.SyncDirectory(made));
  const Status named = files.SyncDirectory(base::ParentPath(path));
  if (!named && named.error().code != Code::kPermissionDenied) return named;  // then it was not us who made it
  BELAY_TRY(base::FaultPoint("spread.before_record"));
  folders.others.push_back({path, membership->id, false});
  base::LogInfo("data_folder_added", {{"folder", path}});
  return Record(files, home, folders);
}

// Two homes with one id would take each other's newer checkpoints for left over. One that was moved is the same home.
Status CheckNoCopy(base::FileSystem& files, const std::string& home, const std::string& home_id,
                   const OtherFolder& folder, bool is_named) {
  BELAY_ASSIGN(Membership membership, ReadMembership(files, folder.path));
  if (membership.home_path == home) return {};
  const auto here = files.Stat(home), there = files.Stat(membership.home_path);
  if (here && there && here->inode == there->inode && here->device == there->device) return {};
  const auto original = ReadDataFolders(files, membership.home_path);
  if (original && original->id == home_id) {
    return Fail(Code::kInvalidArgument, home, " is a copy of the data directory ", membership.home_path,
                ", and its checkpoints link to that one's files in ", folder.path,
                ": serve the original, or copy it with the links followed and without ", DataFoldersFile(home));
  }
  // It may be on a drive that is not mounted, and then this is the copy: its start would remove what is newer than it.
  if (!is_named) {
    return Fail(Code::kInvalidArgument, folder.path, " is a data folder of ", membership.home_path,
                ", which cannot be asked whether ", home, " is a copy of it",
                original ? std::string() : base::Str(" (", original.error().Text(), ")"),
                ". If it was moved here: belay daemon start --also-data-dir ", folder.path);
  }
  membership.home_path = home;
  return base::WriteFileDurably(files, MembershipFile(folder.path), EncodeMembership(membership));
}

Status Drop(base::FileSystem& files, const std::string& home, DataFolders& folders, const std::string& path) {
  const auto folder = Find(folders.others, path);
  if (folder == folders.others.end()) return Fail(Code::kNotFound, path, " is no data folder of ", home);
  const Status here = CheckHere(files, folders.id, *folder);
  if (here) {
    folder->retired = true;
    base::LogInfo("data_folder_retired", {{"folder", path}});
  } else if (here.error().code == Code::kFolderMissing) {
    base::LogWarning("data_folder_forgotten", {{"folder", path}, {"why", here.error().Text()}});
    folders.others.erase(folder);
  } else {
    return here;
  }
  return Record(files, home, folders);
}

}  // namespace

Status CheckIsHome(base::FileSystem& files, const std::string& home) {
  const auto membership = ReadMembership(files, home);
  const bool is_damaged =
      !membership && base::Describe(membership.error().code).exit_status == base::ExitStatus::kBadData;
  if (!membership && !is_damaged) return {};  // what else is wrong with it shows when it is used
  return Fail(Code::kInvalidArgument, home, " is a further data folder of ",
              membership ? membership->home_path : "another data directory",
              " and cannot be served by itself; start belayd with that one");
}

base::Result<DataFolders> Join(base::FileSystem& files, const std::string& home, const Wishes& wishes,
                               const std::function<std::string()>& fresh_id) {
  BELAY_ASSIGN(DataFolders folders, ReadDataFolders(files, home));
  // An id that a power cut can still take back must get into no other folder.
  if (!folders.id.empty()) BELAY_TRY(files.SyncDirectory(base::ParentPath(DataFoldersFile(home))));
  for (const std::string& path : wishes.drop) {
    if (std::ranges::find(wishes.also, path) != wishes.also.end()) {
      return Fail(Code::kInvalidArgument, path, " cannot be taken in and dropped at once");
    }
    BELAY_TRY(Drop(files, home, folders, path));
  }
  for (const std::string& path : wishes.also) {
    const auto known = Find(folders.others, path);
    if (known == folders.others.end()) {
      BELAY_TRY(TakeIn(files, home, folders, path, fresh_id));
    } else if (std::exchange(known->retired, false)) {
      BELAY_TRY(Record(files, home, folders));
    }
  }
  for (const OtherFolder& folder : folders.others) {
    if (auto here = CheckHere(files, folders.id, folder); !here) {
      if (wishes.go_on_without && here.error().code == Code::kFolderMissing) {
        base::LogError("data_folder_missing", {{"folder", folder.path}, {"why", here.error().Text()}});
        continue;
      }
      return Fail(here.error().code, here.error().Text(), " Checkpoints in ", home,
                  " have files there. To go on without them: belay daemon start --drop-data-dir ", folder.path);
    }
    const bool is_named = std::ranges::find(wishes.also, folder.path) != wishes.also.end();
    BELAY_TRY(CheckNoCopy(files, home, folders.id, folder, is_named));
  }
  return folders;
}

}  // namespace belay::checkpoint::spread
