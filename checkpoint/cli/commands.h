// `belay ckpt ...` and `belay daemon ...`: the commands that look after checkpoints and the service that keeps them.
//
// argv[0] is "ckpt" or "daemon", argv[1] the verb: the launcher passes its own arguments from there on. The value is
// the exit status (runtime/base/exit_status.h). stdout gets the result, stderr everything else; the JSON documents are
// described in docs/json-output.md.
#pragma once

namespace belay::checkpoint {

int CkptMain(int argc, char** argv);
int DaemonMain(int argc, char** argv);

}  // namespace belay::checkpoint
