// One verb of `belay ckpt` or `belay daemon`, and the loop that finds and runs it. Internal to checkpoint/cli.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/cli/access.h"
#include "checkpoint/cli/arguments.h"

namespace belay::checkpoint::cli {

struct Verb {
  std::string name;
  std::string summary;  // one line for the list of verbs
  CommandSpec spec;
  // The exit status; an Error is reported in the form that --json asks for.
  base::Result<int> (*run)(const Arguments& arguments);
};

// `group` is "belay ckpt". Prints help for "--help" and for no verb at all (which is a usage error).
int RunVerbs(const std::string& group, const std::string& purpose, const std::vector<Verb>& verbs, int argc,
             char** argv);

// --- the verbs of `belay ckpt` ---
Verb ListVerb();
Verb ShowVerb();
Verb InspectVerb();
Verb VerifyVerb();
Verb DuVerb();
Verb BenchVerb();
Verb PinVerb();
Verb UnpinVerb();
Verb QuarantineVerb();
Verb UnquarantineVerb();
Verb TrustVerb();
Verb RemoveVerb();
Verb ExportVerb();
Verb ReindexVerb();
// --- of `belay daemon` ---
Verb DaemonStartVerb();
Verb DaemonStopVerb();
Verb DaemonRestartVerb();
Verb DaemonStatusVerb();

// CommonOptions() with these before them.
std::vector<OptionSpec> WithCommon(std::vector<OptionSpec> options);

}  // namespace belay::checkpoint::cli
