#include "launcher/cli/job_access.h"

#include "checkpoint/client/locate.h"
#include "launcher/run/last_run.h"
#include "runtime/base/environment.h"
#include "runtime/base/str.h"

namespace belay::launcher {

using base::Code;
using base::Fail;
using base::Str;

base::Result<JobAccess> OpenJobs(const ParsedOptions& parsed) {
  JobAccess access;
  BELAY_ASSIGN(access.data_dir, checkpoint::ResolveDataDirectory(parsed.Get("data-dir")));
  access.project = parsed.Get("project").value_or("default");
  BELAY_TRY(CheckName("--project", access.project));
  access.log_dir = parsed.Get("log-dir").value_or("");
  if (!access.log_dir.empty() && !access.log_dir.starts_with('/'))
    access.log_dir = base::CurrentDirectory() + "/" + access.log_dir;
  return access;
}

JobFolder FolderOf(const JobAccess& access, const std::string& job) {
  const std::string log_dir = access.log_dir.empty() ? "" : Str(access.log_dir, "/", access.project, "/", job);
  JobFolder folder = MakeJobFolder(access.data_dir, access.project, job, log_dir);
  return log_dir.empty() ? FollowLastRun(base::PosixFileSystem(), std::move(folder)) : folder;
}

base::Result<JobFolder> FindJob(const JobAccess& access, const std::string& job) {
  BELAY_TRY(CheckName("job", job));
  base::FileSystem& files = base::PosixFileSystem();
  const JobFolder folder = FolderOf(access, job);
  if (base::Exists(files, folder.path)) return folder;
  std::string known;
  int count = 0;
  for (const JobName& name : ListJobs(files, access.data_dir)) {
    if (name.project == access.project && ++count <= 10) known += Str(known.empty() ? "" : ", ", name.job);
  }
  return Fail(Code::kNotFound, "no run of job ", job, " in project ", access.project, " below ", access.data_dir,
              known.empty() ? std::string("; nothing has run there yet")
                            : Str("; there are: ", known, count > 10 ? ", ..." : ""));
}

base::Result<wire::FromLauncher> AskLauncher(const JobFolder& folder, const wire::ToLauncher& question, bool* stale) {
  *stale = false;
  const auto record = ReadLauncherRecord(base::PosixFileSystem(), folder);
  if (!record) {
    if (record.error().code == Code::kNotFound) return Fail(Code::kNotFound, "no launcher runs this job");
    return tl::unexpected(record.error());
  }
  auto connection = base::UnixTransport().Connect(record->socket, std::chrono::seconds(3));
  if (!connection) {
    *stale = true;
    return Fail(Code::kNotFound, "no launcher runs this job: the one with pid ", record->pid, " ended without a word");
  }
  BELAY_TRY(Send(**connection, question));
  BELAY_ASSIGN(const auto reply, ReceiveFromLauncher(**connection, std::chrono::seconds(10)));
  if (!reply) return Fail(Code::kUnavailable, "the launcher (pid ", record->pid, ") ended while it was asked");
  return *reply;
}

}  // namespace belay::launcher
