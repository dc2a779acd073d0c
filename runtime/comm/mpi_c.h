// <mpi.h> without Open MPI's deprecated C++ classes, which would want a library of their own. Never include <mpi.h>
// itself.
#pragma once

#define OMPI_SKIP_MPICXX 1
#include <mpi.h>
