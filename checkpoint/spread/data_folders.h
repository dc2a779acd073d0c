// How a home and its other data folders know each other. FORMAT.md has the two records.
//
//   <home>/.belayd/folders.json     the home's id, and every other folder in use
//   <other>/.belayd/folder.json     the folder's own id, and whose it is
//
// A home without others has no such file.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/file_system.h"
#include "runtime/base/result.h"

namespace belay::checkpoint::spread {

struct OtherFolder {
  std::string path;  // absolute; links lead there, so that it cannot change
  std::string id;
  bool retired = false;  // read from and deleted from, not written to
  friend bool operator==(const OtherFolder&, const OtherFolder&) = default;
};

struct DataFolders {
  std::string id;  // of the home; empty: it has never had others
  std::vector<OtherFolder> others;
  friend bool operator==(const DataFolders&, const DataFolders&) = default;
};

struct Membership {
  std::string id;    // of the folder
  std::string home;  // the home's id
  std::string home_path;
};

std::string DataFoldersFile(const std::string& home);
std::string MembershipFile(const std::string& folder);

std::string EncodeDataFolders(const DataFolders& folders);
std::string EncodeMembership(const Membership& membership);
// Untrusted input. kCorrupt, kFormatVersion.
base::Result<DataFolders> DecodeDataFolders(std::string_view json);
base::Result<Membership> DecodeMembership(std::string_view json);

// Without a record: no others. An error of the disk or of the record stays an error.
base::Result<DataFolders> ReadDataFolders(base::FileSystem& files, const std::string& home);
// kNotFound: it has none.
base::Result<Membership> ReadMembership(base::FileSystem& files, const std::string& folder);

// kFolderMissing: the folder is not there, or what is there is not the folder that the home knows by this path.
base::Status CheckHere(base::FileSystem& files, const std::string& home_id, const OtherFolder& folder);

}  // namespace belay::checkpoint::spread
