#include "checkpoint/cli/access.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <set>
#include <tuple>
#include <utility>

#include "checkpoint/cli/output.h"
#include "checkpoint/client/locate.h"
#include "checkpoint/format/marks.h"
#include "runtime/base/environment.h"
#include "runtime/base/file_system.h"

namespace belay::checkpoint::cli {
namespace {

using base::Code;
using base::Error;
using base::Fail;
using base::Result;

// Reads one checkpoint's manifest; no value if the folder holds no committed checkpoint. It must be the one that the
// folder is named for: belayd knows it by its place, and leaves another one out.
Result<std::optional<Listed>> ReadListed(base::FileSystem& files, const std::string& directory,
                                         const CheckpointKey& place) {
  auto text = base::ReadWholeFile(files, directory + "/" + std::string(kManifestName), kManifestBytesMax);
  if (!text && text.error().code == Code::kNotFound) return std::optional<Listed>();
  if (!text) return tl::unexpected<Error>(std::move(text).error());
  auto manifest = DecodeManifest(*text);
  if (!manifest) return base::Wrap(std::move(manifest).error(), directory, "/", kManifestName);
  if (manifest->project != place.job.project || manifest->job != place.job.job || manifest->step != place.step ||
      manifest->generation != place.generation) {
    return Fail(Code::kCorrupt, directory, "/", kManifestName, ": it is of job ", manifest->project, "/", manifest->job,
                ", ", CheckpointDirectoryName(manifest->step, manifest->generation));
  }
  Listed listed;
  listed.info.key = place;
  listed.info.bytes = 0;
  for (const ManifestFile& file : manifest->files) listed.info.bytes += file.bytes;
  listed.info.created = manifest->created;
  listed.info.reason = manifest->reason;
  listed.info.directory = directory;
  listed.info.digest = manifest->digest;
  listed.info.world_size = manifest->world_size;
  listed.info.metrics = manifest->metrics;
  const std::string mark = directory + "/" + std::string(kQuarantinedName);
  if (base::Exists(files, mark)) {
    listed.info.quarantine = QuarantineFrom(base::ReadWholeFile(files, mark, kMarkBytesMax)).reason;
  }
  const std::string trust = directory + "/" + std::string(kTrustName);
  if (base::Exists(files, trust)) listed.info.trust = TrustFrom(base::ReadWholeFile(files, trust, kMarkBytesMax));
  listed.pinned = base::Exists(files, directory + "/" + std::string(kPinnedName));
  return std::optional<Listed>(std::move(listed));
}

// The names below `directory` that can be ours; none if it is not there.
Result<std::vector<std::string>> Names(base::FileSystem& files, const std::string& directory) {
  auto names = files.List(directory);
  if (!names) {
    if (names.error().code == Code::kNotFound) return std::vector<std::string>();
    return tl::unexpected<Error>(std::move(names).error());
  }
  std::erase_if(*names, [&](const std::string& name) {
    if (name.starts_with(".")) return true;
    const auto info = files.Stat(directory + "/" + name);
    return !info || !info->is_directory;
  });
  return std::move(*names);
}

struct Scanned {
  std::vector<Listed> readable;
  std::vector<Access::Unreadable> unreadable;
};

// Walks the data directory. A folder that cannot be listed is handed to `closed`, which may go on without it.
Result<Scanned> ScanFiles(const std::string& data_dir, const std::string& only_project, const std::string& only_job,
                          const std::function<base::Status(Error)>& closed) {
  base::FileSystem& files = base::PosixFileSystem();
  Scanned found;
  const auto names_in = [&](const std::string& directory) -> Result<std::vector<std::string>> {
    auto names = Names(files, directory);
    if (names) return names;
    BELAY_TRY(closed(std::move(names).error()));
    return std::vector<std::string>();
  };
  BELAY_ASSIGN(const auto projects, names_in(data_dir));
  for (const std::string& project : projects) {
    if (!only_project.empty() && project != only_project) continue;
    BELAY_ASSIGN(const auto jobs, names_in(data_dir + "/" + project));
    for (const std::string& job : jobs) {
      if (!only_job.empty() && job != only_job) continue;
      const std::string folder = data_dir + "/" + project + "/" + job;
      BELAY_ASSIGN(const auto checkpoints, names_in(folder));
      for (const std::string& name : checkpoints) {
        const auto id = ParseCheckpointDirectoryName(name);
        if (!id) continue;
        auto listed = ReadListed(files, folder + "/" + name, {{project, job}, id->step, id->generation});
        if (!listed) {
          found.unreadable.push_back({folder + "/" + name, std::move(listed).error()});
        } else if (*listed) {
          found.readable.push_back(std::move(**listed));
        }
      }
    }
  }
  return found;
}

}  // namespace

Result<Access> OpenAccess(const Arguments& arguments, Need need) {
  LocateRequest request;
  request.data_dir = arguments.Get("data-dir");
  request.socket = arguments.Get("socket");
  request.program = "belay ckpt";
  Access access;
  const auto project = arguments.Get("project") ? arguments.Get("project") : base::GetEnvironment("BELAY_PROJECT");
  access.all_projects = !project;
  access.project = project.value_or("default");
  BELAY_TRY(ValidateName("project", access.project));
  BELAY_ASSIGN(access.data_dir, ResolveDataDirectory(request.data_dir));

  auto located = need == Need::kChange ? ConnectOrStartDaemon(request) : ConnectToDaemon(request);
  if (located) {
    if (!located->data_dir.empty()) access.data_dir = located->data_dir;
    access.client = std::move(located->client);
    return access;
  }
  // Only "nobody there" may be answered by reading the files; and a named socket was named for a reason.
  if (need == Need::kChange || located.error().code != Code::kUnavailable || NamedSocket(request.socket)) {
    return tl::unexpected<Error>(std::move(located).error());
  }
  Note(base::Str("no belayd answers; reading the files in ", access.data_dir));
  return access;
}

std::vector<OptionSpec> CommonOptions() {
  return {{"project", "NAME", "the project (BELAY_PROJECT; \"default\")"},
          {"data-dir", "DIR", "where checkpoints are kept (BELAY_DATA_DIR; ~/.local/share/belay)"},
          {"socket", "PATH", "belayd's socket (BELAY_SOCKET; found from the data directory)"},
          {"json", "", "print one JSON document (docs/json-output.md)"},
          {"help", "", "this text"}};
}

Result<std::vector<Listed>> ListAll(Access& access, const std::string& project, const std::string& job) {
  std::vector<Listed> all;
  if (access.client != nullptr) {
    BELAY_ASSIGN(auto infos, access.client->ListCheckpoints(project, job));
    for (CheckpointInfo& info : infos) {
      const bool pinned = info.pinned;
      all.push_back({std::move(info), pinned});
    }
  } else {
    const auto must_list = [](Error error) -> base::Status { return tl::unexpected<Error>(std::move(error)); };
    BELAY_ASSIGN(Scanned scanned, ScanFiles(access.data_dir, project, job, must_list));
    for (const Access::Unreadable& folder : scanned.unreadable) Note(folder.error.Text());
    all = std::move(scanned.readable);
    access.unreadable = std::move(scanned.unreadable);
  }
  std::sort(all.begin(), all.end(), [](const Listed& a, const Listed& b) {
    // A run that went back to an older step writes newer checkpoints with smaller steps: the generation counts first.
    return std::tie(a.info.key.job, b.info.key.generation, b.info.key.step) <
           std::tie(b.info.key.job, a.info.key.generation, a.info.key.step);
  });
  return all;
}

std::vector<Access::Unreadable> FindUnreadable(const Access& access, const std::string& project, const std::string& job,
                                               const std::vector<Listed>& listed) {
  if (access.client == nullptr) return access.unreadable;
  // Another user's job is closed to us, and a data directory may be of another mount namespace.
  const auto skip = [](const Error& error) -> base::Status {
    Note("cannot look for damaged manifests: " + error.Text());
    return {};
  };
  auto scanned = ScanFiles(access.data_dir, project, job, skip);
  if (!scanned) return {};  // `skip` lets nothing through
  std::set<std::string> known;
  for (const Listed& checkpoint : listed) known.insert(checkpoint.info.directory);
  std::erase_if(scanned->unreadable, [&](const Access::Unreadable& folder) {
    return known.contains(folder.directory) || folder.error.code == Code::kPermissionDenied;
  });
  return std::move(scanned->unreadable);
}

Result<Listed> Find(Access& access, const std::string& job, const std::optional<std::string>& step,
                    std::optional<std::int64_t> generation) {
  std::optional<std::int64_t> wanted;
  if (step && *step != "latest") {
    if (const auto name = ParseCheckpointDirectoryName(*step)) {  // as `ls` shows it
      wanted = name->step.value();
      generation = static_cast<std::int64_t>(name->generation.value());
    } else {
      BELAY_ASSIGN(wanted, ParseNumber("STEP", *step, 0, std::numeric_limits<std::int64_t>::max()));
    }
  }
  BELAY_TRY(ValidateName("job", job));
  BELAY_ASSIGN(auto all, ListAll(access, access.project, job));
  std::string steps;
  // The latest is the one that a resume would take: not a quarantined or suspect one, if there is another.
  const auto is_good = [](const Listed& listed) {
    return listed.info.quarantine.empty() && listed.info.trust.state != TrustState::kSuspect;
  };
  if (!wanted) std::stable_partition(all.begin(), all.end(), is_good);
  for (Listed& listed : all) {
    const CheckpointKey& key = listed.info.key;
    if ((!wanted || key.step.value() == *wanted) &&
        (!generation || key.generation.value() == static_cast<std::uint64_t>(*generation))) {
      return std::move(listed);
    }
    if (steps.size() < 100) steps += base::Str(steps.empty() ? "" : ", ", key.step);
  }
  if (all.empty()) {
    return Fail(Code::kNotFound, "job ", job, " in project ", access.project, " has no committed checkpoint in ",
                access.data_dir, "; `belay ckpt list` shows what there is");
  }
  return Fail(Code::kNotFound, "job ", job, " has no committed checkpoint of step ", step.value_or("latest"),
              generation ? base::Str(" in generation ", *generation) : std::string(), "; it has ", steps);
}

Result<std::unique_ptr<Restorer>> OpenFiles(Access& access, const Listed& checkpoint) {
  if (access.client != nullptr) return Restorer::Open(*access.client, checkpoint.info.key, false);
  return Restorer::OpenDirectory(base::PosixFileSystem(), checkpoint.info.directory);
}

}  // namespace belay::checkpoint::cli
