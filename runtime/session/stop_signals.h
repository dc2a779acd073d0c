// SIGTERM, SIGUSR1 and SIGUSR2 as a wish to stop: the handlers set a flag and nothing else, since work in a handler
// stalls or tears what it meets. The training loop looks at the flag once a step.
#pragma once

namespace belay::runtime {

void CatchStopSignals();
// Puts back the handlers found by CatchStopSignals.
void ReleaseStopSignals();
bool StopSignalSeen();

}  // namespace belay::runtime
