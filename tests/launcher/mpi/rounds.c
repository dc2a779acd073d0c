// An MPI program without belay: all-reduces in a loop. argv[1] says what rank 1 does at round 20.
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char** argv) {
  int rank = 0, size = 0, one = 1, sum = 0;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  for (int round = 0; round < 40; ++round) {
    MPI_Allreduce(&one, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
    if (round == 20 && rank == 1 && argc > 1) {
      if (strcmp(argv[1], "kill") == 0) raise(SIGKILL);
      if (strcmp(argv[1], "segv") == 0) raise(SIGSEGV);
      if (strcmp(argv[1], "exit") == 0) _exit(5);
      if (strcmp(argv[1], "abort") == 0) MPI_Abort(MPI_COMM_WORLD, 7);
    }
  }
  if (rank == 0) printf("sum %d of %d\n", sum, size);
  MPI_Finalize();
  return 0;
}
