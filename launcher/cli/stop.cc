// belay stop
#include <nlohmann/json.hpp>

#include "launcher/cli/commands.h"
#include "launcher/cli/job_access.h"
#include "runtime/base/clock.h"
#include "runtime/base/environment.h"
#include "runtime/base/str.h"

namespace belay::launcher {
namespace {

constexpr std::string_view kUsage =
    "belay stop JOB [options]\n"
    "\n"
    "Asks a run to finish its step, save and leave; belay run then exits 75. Returns as soon as the run has heard of "
    "it,\n"
    "or with --wait when it has ended.\n"
    "\n";
constexpr std::string_view kExamples =
    "\n"
    "Examples:\n"
    "  belay stop gpt\n"
    "  belay stop gpt --wait\n"
    "  belay stop gpt --now       kill it; what is committed stays\n";

}  // namespace

int StopCommand(std::span<const std::string> args) {
  std::vector<OptionSpec> specs = JobOptions();
  specs.push_back({"now", "", "", "kill the ranks without waiting for a save", "", false});
  specs.push_back({"wait", "", "", "return when the run has ended", "", false});
  const auto parsed = ParseOptions(specs, args, true, base::GetEnvironment);
  if (!parsed) return ReportError(parsed.error(), WantsJson(args), "stop");
  if (parsed->help) {
    PrintOut(base::Str(kUsage, "Options:\n", RenderOptions(specs), kExamples));
    return 0;
  }
  const bool json = parsed->Has("json");
  const auto run = [&]() -> base::Status {
    if (parsed->rest.size() != 1) return base::Fail(base::Code::kInvalidArgument, "belay stop wants one job's name");
    BELAY_ASSIGN(const JobAccess access, OpenJobs(*parsed));
    BELAY_ASSIGN(const JobFolder folder, FindJob(access, parsed->rest[0]));
    wire::ToLauncher question;
    question.mutable_ask_stop()->set_now(parsed->Has("now"));
    bool stale = false;
    BELAY_ASSIGN(const wire::FromLauncher reply, AskLauncher(folder, question, &stale));
    bool ended = false;
    if (parsed->Has("wait")) {
      wire::ToLauncher status;
      status.mutable_ask_status();
      while (AskLauncher(folder, status, &stale)) base::SystemClock().SleepFor(std::chrono::milliseconds(200));
      ended = true;
    }
    if (json) {
      PrintOut(nlohmann::json{{"schema_version", 1},
                              {"job", parsed->rest[0]},
                              {"project", access.project},
                              {"accepted", true},
                              {"ended", ended}}
                   .dump(2) +
               "\n");
    } else {
      PrintOut(base::Str(ended ? "stopped" : reply.stop_reply().text(), " ", parsed->rest[0], "\n"));
    }
    return {};
  };
  const base::Status status = run();
  return status ? 0 : ReportError(status.error(), json, "stop");
}

}  // namespace belay::launcher
