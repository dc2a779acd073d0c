// What a start of belayd does about its data folders, before anything in them is looked at.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "checkpoint/spread/data_folders.h"

namespace belay::checkpoint::spread {

struct Wishes {
  std::vector<std::string> also;  // to be taken in, if they are not yet
  std::vector<std::string> drop;  // not to be written to any more; forgotten, if they are not there
  bool go_on_without = false;     // a folder that is not here is no reason not to serve
};

// kInvalidArgument: the folder is another home's, and must not be served as one itself: without the home's manifests
// everything in it would look left over.
base::Status CheckIsHome(base::FileSystem& files, const std::string& home);

// The home's folders as they are from now on: every one is here, knows its home, and is on record, durably. `home` has
// its own folder already and is locked. `fresh_id` gives 32 random hex digits.
//
// kInvalidArgument: a folder that does not fit (inside another one, another home's, a home itself), or the home is a
// copy of the one whose folders these are; kNotFound: one to be dropped that was never in use; kFolderMissing: one that
// is in use and is not here. A home that was moved is told from a copy by its original, which must be there to be
// asked, or by naming the folder in `also` again.
base::Result<DataFolders> Join(base::FileSystem& files, const std::string& home, const Wishes& wishes,
                               const std::function<std::string()>& fresh_id);

}  // namespace belay::checkpoint::spread
