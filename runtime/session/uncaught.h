// How a rank ends on an exception that nobody catches: a line for people that names the rank, and a documented exit
// status.
//
// It leaves without unwinding and without MPI_Finalize, which would wait for ranks that wait for this one: the launcher
// sees the exit and ends the others.
#pragma once

namespace belay::runtime {

// belay::Error: its exit status; an error of a collective: kUnavailable; anything else: the handler there was before
// (abort).
void EndOnUncaughtErrors();
void NameRankInErrors(int rank, int world_size);

}  // namespace belay::runtime
